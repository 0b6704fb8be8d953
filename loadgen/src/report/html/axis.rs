//! Axes of charts: where a value lies, and which ticks are shown.

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// Over [`MAX_DECADES`] at most: what is below lies on the lower edge.
    Log,
    /// Of shares below 1, by the logarithm of 1/(1-share): each nine takes as much room.
    Nines,
}

/// An axis for some values.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    scale: Scale,
    /// As [`Axis::project`] sees them.
    from: f64,
    to: f64,
    pub ticks: Vec<Tick>,
}

/// A value of an axis that is written beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    pub value: f64,
    pub label: String,
}

/// About so many ticks of a linear axis.
const TICKS: f64 = 5.0;
/// What is less than a part of this power of ten is not told apart by looking.
const MAX_DECADES: i32 = 4;
/// A logarithmic axis over so many decades or less has ticks between them.
const FEW_DECADES: f64 = 2.0;

impl Axis {
    /// An axis that has room for these values. Those that the scale cannot have are left out.
    pub fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let fits = |value: &f64| value.is_finite() && scale.has(*value);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(fits) {
            least = least.min(value);
            most = most.max(value);
        }
        let (least, most) = match (scale, least <= most) {
            (Scale::Linear, true) if most > 0.0 || least < 0.0 => (least.min(0.0), most.max(0.0)),
            (Scale::Linear, _) => (0.0, 1.0),
            (Scale::Log, true) => (least.max(most * 10_f64.powi(-MAX_DECADES)), most),
            (_, true) => (least, most),
            (Scale::Nines, false) => (0.0, 0.9),
            (_, false) => (0.1, 1.0),
        };
        let ticks = match scale {
            Scale::Linear => linear(least, most),
            Scale::Log => logarithmic(least, most),
            Scale::Nines => nines(most),
        };
        let least = match scale {
            Scale::Nines => 0.0,
            Scale::Linear | Scale::Log => least,
        };
        let ends = ticks.iter().map(|tick| tick.value).chain([least, most]);
        let ends: Vec<f64> = ends.map(|value| scale.project(value)).collect();
        let from = ends.iter().copied().fold(f64::INFINITY, f64::min);
        let to = ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            scale,
            from,
            to,
            ticks,
        }
    }

    /// Where a value lies: 0 is the axis's begin, 1 its end. None: the scale cannot have it.
    pub fn project(&self, value: f64) -> Option<f64> {
        let at = self.scale.has(value).then(|| self.scale.project(value))?;
        let length = self.to - self.from;
        match length > 0.0 {
            true => Some(((at - self.from) / length).clamp(0.0, 1.0)),
            false => Some(0.5),
        }
    }

    /// What is written beside its title.
    pub fn note(&self) -> &'static str {
        match self.scale {
            Scale::Log => " (log scale)",
            Scale::Linear | Scale::Nines => "",
        }
    }
}

impl Scale {
    fn has(self, value: f64) -> bool {
        match self {
            Self::Linear => value.is_finite(),
            Self::Log => value.is_finite() && value > 0.0,
            Self::Nines => (0.0..1.0).contains(&value),
        }
    }

    fn project(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value).log10(),
        }
    }
}

fn tick(value: f64, label: String) -> Tick {
    Tick { value, label }
}

/// Steps of 1, 2, 2.5 or 5 times a power of ten.
fn linear(least: f64, most: f64) -> Vec<Tick> {
    let span = (most - least).max(f64::MIN_POSITIVE);
    let rough = span / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= rough);
    let step = factor.unwrap_or(10.0) * power;
    let (first, last) = ((least / step).ceil() as i64, (most / step).floor() as i64);
    let values = (first..=last).map(|at| at as f64 * step);
    values.map(|value| tick(value, short(value))).collect()
}

/// Powers of ten, and 2 and 5 times these where there are few of them.
fn logarithmic(least: f64, most: f64) -> Vec<Tick> {
    let few = (most / least).log10() <= FEW_DECADES;
    let factors: &[f64] = if few { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = (least.log10().floor() as i32)..=(most.log10().ceil() as i32);
    let all: Vec<f64> = decades
        .flat_map(|decade| {
            factors
                .iter()
                .map(move |factor| factor * 10_f64.powi(decade))
        })
        .collect();
    // From the last one below to the first one above.
    let first = all.iter().rposition(|value| *value <= least).unwrap_or(0);
    let last = all.iter().position(|value| *value >= most);
    let shown = &all[first..=last.unwrap_or(all.len() - 1).max(first)];
    shown
        .iter()
        .map(|value| tick(*value, short(*value)))
        .collect()
}

/// 50 %, 90 %, 99 % and so on; there is no room between 0 % and the first of them.
fn nines(most: f64) -> Vec<Tick> {
    let mut ticks = vec![tick(0.5, "50 %".to_owned())];
    for nines in 1..=9_u32 {
        let share = 1.0 - 10_f64.powi(-(nines as i32));
        let decimals = nines.saturating_sub(2) as usize;
        ticks.push(tick(share, format!("{:.decimals$} %", share * 100.0)));
        if share >= most {
            break;
        }
    }
    ticks
}

/// A number with as many digits as a tick needs: `0.05`, `2.5`, `10`, `20k`, `1.5M`.
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{scaled:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_has_round_ticks() {
        let axis = Axis::new(Scale::Linear, [9_000.0, 10_400.0].into_iter());
        assert_eq!(
            labels(&axis),
            ["0", "2500", "5000", "7500", "10k"],
            "about five, each of them round"
        );
        assert_eq!(axis.project(0.0), Some(0.0));
        assert_eq!(axis.project(10_400.0), Some(1.0));
    }

    #[test]
    fn a_logarithmic_axis_has_a_tick_on_either_side_of_its_values() {
        let axis = Axis::new(Scale::Log, [0.3, 33.0, 0.0, f64::NAN].into_iter());
        assert_eq!(labels(&axis), ["0.1", "1", "10", "100"]);
        assert_eq!(axis.project(0.0), None, "there is no such place");
        let narrow = Axis::new(Scale::Log, [3.0, 40.0].into_iter());
        assert_eq!(labels(&narrow), ["2", "5", "10", "20", "50"]);
        let wide = Axis::new(Scale::Log, [1e-6, 4.0].into_iter());
        assert_eq!(labels(&wide), ["0.0001", "0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(wide.project(1e-6), Some(0.0), "on the edge");
        let one = Axis::new(Scale::Log, [5.0].into_iter());
        assert_eq!(one.project(5.0), Some(0.5));
    }

    #[test]
    fn each_nine_takes_as_much_room() {
        let axis = Axis::new(Scale::Nines, [0.0, 0.9995].into_iter());
        assert_eq!(labels(&axis), ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let at = |share| axis.project(share).unwrap();
        assert!((at(0.99) - at(0.9) - (at(0.9) - at(0.0))).abs() < 1e-9);
        assert_eq!(axis.project(1.0), None);
    }

    #[test]
    fn an_axis_without_values_is_one() {
        for scale in [Scale::Linear, Scale::Log, Scale::Nines] {
            let axis = Axis::new(scale, std::iter::empty());
            assert!(axis.ticks.len() > 1, "{scale:?}: {axis:?}");
        }
    }
}
