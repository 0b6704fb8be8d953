//! AlterConfigs (33): replaces all configs of resources. KIP-133. Clients should rather use
//! IncrementalAlterConfigs, which does the work for both.

use super::incremental_alter_configs::{Way, alter};
use super::{Api, Call, Handled};
use crate::wire::alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, KEY, Request, Response,
};
use crate::wire::incremental_alter_configs as incremental;

pub(super) const API: Api = Api {
    key: KEY,
    name: "AlterConfigs",
    versions: 0..=2,
    handle,
};

fn handle(mut call: Call) -> Handled {
    let request: Request = call.decode()?;
    let resources = request.resources.into_iter().map(as_incremental).collect();
    call.later(async move |call| {
        let way = Way::Replace;
        let responses = alter(&call.gateway, resources, way, request.validate_only).await;
        let response =
            |r: incremental::AlterConfigsResourceResponse| AlterConfigsResourceResponse {
                error_code: r.error_code,
                error_message: r.error_message,
                resource_type: r.resource_type,
                resource_name: r.resource_name,
            };
        Response {
            responses: responses.into_iter().map(response).collect(),
            ..Response::default()
        }
    })
}

fn as_incremental(resource: AlterConfigsResource) -> incremental::AlterConfigsResource {
    let configs = resource.configs.into_iter();
    let configs = configs.map(|config| incremental::AlterableConfig {
        name: config.name,
        value: config.value,
        ..incremental::AlterableConfig::default()
    });
    incremental::AlterConfigsResource {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: configs.collect(),
    }
}
