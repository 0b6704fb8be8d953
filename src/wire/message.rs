//! `message!`: a message as a table of fields. The table is all that is written by hand.
//!
//! ```text
//! message! {
//!     /// What the API is for, and what its versions changed.
//!     api 12, versions 0..=4, flexible 4..;
//!     request {
//!         group_id: StrBytes,                          // in all versions
//!         generation_id: i32 = -1,                     // with a default of its own
//!         group_instance_id: Option<StrBytes> [3..],   // from version 3, nullable
//!         topics: Option<Vec<Topic>> [0.., nullable 1..],  // null is allowed from version 1
//!         cluster_id: Option<StrBytes> [12.., tag 0],  // a tagged field (KIP-482)
//!     }
//!     response { .. }
//!     struct Topic { .. }
//! }
//! ```
//!
//! It is for modules right inside of `wire`, and makes `KEY`, `VERSIONS`, `FLEXIBLE`, `Request`,
//! `Response` and the structures. A field that a version does not have keeps its default when read,
//! and is left out when written. Tagged fields are written when they are not at their default.
//! `flexible none` is an API without flexible versions.

macro_rules! message {
    (
        $(#[$doc:meta])*
        api $key:literal, versions $versions:expr, flexible $(none)? $($flexible:literal ..)?;
        request { $($request:tt)* }
        response { $($response:tt)* }
        $($(#[$meta:meta])* struct $name:ident { $($fields:tt)* })*
    ) => {
        /// The API's key.
        pub const KEY: i16 = $key;
        /// The versions that can be read and written.
        pub const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
        /// The first flexible version (KIP-482); `i16::MAX` when there is none.
        pub const FLEXIBLE: i16 = message!(@flexible $($flexible)?);

        message!(@struct $(#[$doc])* Request { $($request)* });
        message!(@struct
            /// The answer to a [`Request`].
            Response { $($response)* }
        );
        $(message!(@struct $(#[$meta])* $name { $($fields)* });)*
        message!(@message Request, VERSIONS, FLEXIBLE);
        message!(@message Response, VERSIONS, FLEXIBLE);
    };

    // Messages that are no API's, but have versions of their own.
    (
        versions $versions:expr, flexible $(none)? $($flexible:literal ..)?;
        $($(#[$meta:meta])* message $name:ident { $($fields:tt)* })+
        $(struct $part:ident { $($part_fields:tt)* })*
    ) => {
        /// The versions that can be read and written.
        pub const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
        /// The first flexible version (KIP-482); `i16::MAX` when there is none.
        pub const FLEXIBLE: i16 = message!(@flexible $($flexible)?);

        $(
            message!(@struct $(#[$meta])* $name { $($fields)* });
            message!(@message $name, VERSIONS, FLEXIBLE);
        )+
        $(message!(@struct $part { $($part_fields)* });)*
    };

    (@flexible) => { i16::MAX };
    (@flexible $first:literal) => { $first };

    // Makes a structure a `Message`: one that can stand alone.
    (@message $name:ident, $versions:expr, $flexible:expr) => {
        impl super::Message for $name {
            fn decode(r: &mut super::Reader, version: i16) -> Result<Self, super::DecodeError> {
                let v = super::codec::Version::checked(r, version, $versions, $flexible)
                    .map_err(|e| e.within(concat!(module_path!(), "::", stringify!($name))))?;
                super::codec::Field::read(r, v)
            }

            fn encode(&self, w: &mut super::Writer, version: i16) {
                let v = super::codec::Version::new(version, $flexible);
                super::codec::Field::write(self, w, v);
            }
        }
    };

    (@struct $(#[$meta:meta])* $name:ident {
        $(
            $(#[$field_meta:meta])*
            $field:ident: $ty:ty $([$($spec:tt)+])? $(= $default:expr)?
        ),*
        $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: message!(@default $($default)?),)* }
            }
        }

        impl super::codec::Field for $name {
            fn read(
                r: &mut super::Reader,
                v: super::codec::Version,
            ) -> Result<Self, super::DecodeError> {
                $(
                    // Only a tagged field is assigned once more, below.
                    #[allow(unused_mut)]
                    let mut $field: $ty = message!(
                        @read r, v,
                        concat!(module_path!(), "::", stringify!($name), ".", stringify!($field)),
                        message!(@default $($default)?);
                        $($($spec)+)?
                    );
                )*
                if v.flexible {
                    r.tagged_fields(|_r, _tag| {
                        $(message!(
                            @read_tag _r, v, _tag, $field,
                            concat!(module_path!(), "::", stringify!($name), ".", stringify!($field));
                            $($($spec)+)?
                        );)*
                        Ok(false)
                    })
                    .map_err(|e| e.within(concat!(module_path!(), "::", stringify!($name))))?;
                }
                Ok(Self { $($field),* })
            }

            fn write(&self, w: &mut super::Writer, v: super::codec::Version) {
                $(message!(@write w, v, self.$field; $($($spec)+)?);)*
                if v.flexible {
                    let tags = 0 $(
                        + message!(@count v, self.$field, message!(@default $($default)?); $($($spec)+)?)
                    )*;
                    w.uvarint(tags);
                    $(message!(
                        @write_tag w, v, self.$field, message!(@default $($default)?);
                        $($($spec)+)?
                    );)*
                }
            }
        }

        #[cfg(test)]
        impl super::tests::sample::Sample for $name {
            fn sample(
                s: &mut super::tests::sample::Source<'_>,
                v: super::codec::Version,
            ) -> Self {
                Self {
                    $($field: message!(@sample s, v, message!(@default $($default)?); $($($spec)+)?),)*
                }
            }
        }

        impl super::codec::Nullable for $name {
            fn read_nullable(
                r: &mut super::Reader,
                v: super::codec::Version,
            ) -> Result<Option<Self>, super::DecodeError> {
                // A byte in front says whether the structure follows; Kafka takes all below 0 as null.
                if r.i8()? < 0 {
                    return Ok(None);
                }
                super::codec::Field::read(r, v).map(Some)
            }

            fn write_nullable(
                value: Option<&Self>,
                w: &mut super::Writer,
                v: super::codec::Version,
            ) {
                match value {
                    Some(value) => {
                        w.i8(1);
                        super::codec::Field::write(value, w, v);
                    }
                    None => w.i8(-1),
                }
            }
        }
    };

    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    // Below, what stands behind the `;` is a field's specification: nothing, `3..`,
    // `3.., nullable 5..` or `3.., tag 0`.
    (@read $r:ident, $v:ident, $path:expr, $default:expr;) => {
        super::codec::Field::read($r, $v).map_err(|e| e.within($path))?
    };
    (@read $r:ident, $v:ident, $path:expr, $default:expr; $versions:expr) => {
        if $versions.contains(&$v.number) {
            super::codec::Field::read($r, $v).map_err(|e| e.within($path))?
        } else {
            $default
        }
    };
    (@read $r:ident, $v:ident, $path:expr, $default:expr; $versions:expr, nullable $nullable:expr) => {
        if !$versions.contains(&$v.number) {
            $default
        } else if $nullable.contains(&$v.number) {
            super::codec::Field::read($r, $v).map_err(|e| e.within($path))?
        } else {
            Some(super::codec::Field::read($r, $v).map_err(|e| e.within($path))?)
        }
    };
    (@read $r:ident, $v:ident, $path:expr, $default:expr; $versions:expr, tag $tag:literal) => {
        $default
    };

    (@sample $s:ident, $v:ident, $default:expr;) => {
        super::tests::sample::Sample::sample($s, $v)
    };
    (@sample $s:ident, $v:ident, $default:expr; $versions:expr, nullable $nullable:expr) => {
        if !$versions.contains(&$v.number) {
            $default
        } else if $nullable.contains(&$v.number) {
            super::tests::sample::Sample::sample($s, $v)
        } else {
            Some(super::tests::sample::Sample::sample($s, $v))
        }
    };
    (@sample $s:ident, $v:ident, $default:expr; $versions:expr $(, tag $tag:literal)?) => {
        if $versions.contains(&$v.number) {
            super::tests::sample::Sample::sample($s, $v)
        } else {
            $default
        }
    };

    (@read_tag $r:ident, $v:ident, $read:ident, $field:ident, $path:expr; $versions:expr, tag $tag:literal) => {
        if $read == $tag && $versions.contains(&$v.number) {
            $field = super::codec::Field::read($r, $v).map_err(|e| e.within($path))?;
            return Ok(true);
        }
    };
    (@read_tag $r:ident, $v:ident, $read:ident, $field:ident, $path:expr; $($spec:tt)*) => {};

    (@write $w:ident, $v:ident, $value:expr;) => {
        super::codec::Field::write(&$value, $w, $v);
    };
    (@write $w:ident, $v:ident, $value:expr; $versions:expr) => {
        if $versions.contains(&$v.number) {
            super::codec::Field::write(&$value, $w, $v);
        }
    };
    (@write $w:ident, $v:ident, $value:expr; $versions:expr, nullable $nullable:expr) => {
        if $versions.contains(&$v.number) {
            if $nullable.contains(&$v.number) {
                super::codec::Field::write(&$value, $w, $v);
            } else {
                super::codec::write_or_empty(&$value, $w, $v);
            }
        }
    };
    (@write $w:ident, $v:ident, $value:expr; $versions:expr, tag $tag:literal) => {};

    (@count $v:ident, $value:expr, $default:expr; $versions:expr, tag $tag:literal) => {
        u32::from($versions.contains(&$v.number) && super::codec::differs(&$value, $default))
    };
    (@count $v:ident, $value:expr, $default:expr; $($spec:tt)*) => { 0 };

    (@write_tag $w:ident, $v:ident, $value:expr, $default:expr; $versions:expr, tag $tag:literal) => {
        if $versions.contains(&$v.number) && super::codec::differs(&$value, $default) {
            $w.tagged_field($tag, &$value, $v);
        }
    };
    (@write_tag $w:ident, $v:ident, $value:expr, $default:expr; $($spec:tt)*) => {};
}

pub(super) use message;
