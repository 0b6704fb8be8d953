//! ListConfigResources (74): what has configs. KIP-1142; version 0 was ListClientMetricsResources
//! (KIP-714). There are no subscriptions to clients' metrics here.

use super::config_resource::ResourceType;
use super::{Api, Call, Handled};
use crate::catalog::Catalog;
use crate::gateway::Facts;
use crate::wire::list_config_resources::{ConfigResource, KEY, Request, Response};
use crate::wire::{ErrorCode, StrBytes};

pub(super) const API: Api = Api {
    key: KEY,
    name: "ListConfigResources",
    versions: 0..=1,
    handle,
};

/// KIP-1142: from here on there are other types than clients' metrics.
const TYPES_VERSION_MIN: i16 = 1;

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let version = call.version();
    let Some(asked) = Asked::of(version, &request) else {
        return call.answer(&Response {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Response::default()
        });
    };
    call.answer(&Response {
        config_resources: list(&call.gateway.catalog(), call.gateway.facts(), asked),
        ..Response::default()
    })
}

/// The types that are listed; others have nothing to list.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    groups: bool,
    loggers: bool,
    brokers: bool,
    topics: bool,
}

impl Asked {
    /// `None` if one of the types has no configs.
    fn of(version: i16, request: &Request) -> Option<Self> {
        let types = request.resource_types.iter();
        let types: Vec<_> = types.map(|t| ResourceType::of(*t)).collect::<Option<_>>()?;
        let all = version >= TYPES_VERSION_MIN && types.is_empty();
        let has = |of| all || types.contains(&of);
        Some(Asked {
            groups: has(ResourceType::Group),
            loggers: has(ResourceType::BrokerLogger),
            brokers: has(ResourceType::Broker),
            topics: has(ResourceType::Topic),
        })
    }
}

fn list(catalog: &Catalog, facts: &Facts, asked: Asked) -> Vec<ConfigResource> {
    let resource = |of: ResourceType, resource_name: StrBytes| ConfigResource {
        resource_name,
        resource_type: of as i8,
    };
    let brokers = |of| {
        let brokers = facts.brokers.iter();
        brokers.map(move |broker| resource(of, broker.id.to_string().into()))
    };
    let mut resources = Vec::new();
    if asked.groups {
        let names = catalog.groups().names().map(str::to_owned);
        resources.extend(names.map(|name| resource(ResourceType::Group, name.into())));
    }
    if asked.loggers {
        resources.extend(brokers(ResourceType::BrokerLogger));
    }
    if asked.brokers {
        resources.extend(brokers(ResourceType::Broker));
    }
    if asked.topics {
        let mut names: Vec<_> = catalog.topics().map(|topic| &topic.name).collect();
        names.sort_unstable();
        let topics = names.into_iter().cloned();
        resources.extend(topics.map(|name| resource(ResourceType::Topic, name)));
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: i16, resource_types: &[i8]) -> Option<Vec<&'static str>> {
        let request = Request {
            resource_types: resource_types.to_vec(),
        };
        let asked = Asked::of(version, &request)?;
        let all = [
            (asked.groups, "groups"),
            (asked.loggers, "loggers"),
            (asked.brokers, "brokers"),
            (asked.topics, "topics"),
        ];
        Some(
            all.iter()
                .filter(|(has, _)| *has)
                .map(|(_, name)| *name)
                .collect(),
        )
    }

    #[test]
    fn no_type_asks_for_all_but_before_there_were_types() {
        assert_eq!(
            asked(1, &[]),
            Some(vec!["groups", "loggers", "brokers", "topics"])
        );
        assert_eq!(asked(0, &[]), Some(vec![]));
    }

    #[test]
    fn an_unknown_type_spoils_the_request() {
        assert_eq!(asked(1, &[2, 2, 32]), Some(vec!["groups", "topics"]));
        assert_eq!(asked(1, &[4, 16]), Some(vec!["brokers"]));
        for unknown in [0, 1, 99, -1] {
            assert_eq!(asked(1, &[2, unknown]), None);
        }
    }
}
