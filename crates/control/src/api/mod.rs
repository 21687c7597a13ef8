//! The public API, one file per resource. Each file has its table of routes beside its handlers; this one only puts
//! the tables together.

pub(crate) mod browse;
pub(crate) mod documents;
pub(crate) mod factories;
pub(crate) mod gateways;
pub(crate) mod nodes;
pub(crate) mod ours;
pub(crate) mod pipelines;
pub(crate) mod runs;
pub(crate) mod runtimes;
pub(crate) mod seal;
pub(crate) mod status;

use dmg_state::Factory;
use serde_json::{Value, json};

use crate::error::{Refusal, Result};
use crate::http::Call;
use crate::router::Route;

/// All routes.
pub(crate) fn routes() -> impl Iterator<Item = &'static Route> {
    [
        factories::ROUTES,
        runtimes::ROUTES,
        nodes::ROUTES,
        gateways::ROUTES,
        documents::ROUTES,
        pipelines::ROUTES,
        runs::ROUTES,
        ours::ROUTES,
        browse::ROUTES,
    ]
    .into_iter()
    .flatten()
}

/// Operations of the original that are known and not built yet: the word after the factory, or after a runtime.
pub(crate) const NOT_BUILT: &[&str] = &[
    "activitytypes",
    "activitywindows",
    "adfcdcs",
    "adddataflowtodebugsession",
    "computetypes",
    "createdataflowdebugsession",
    "credentials",
    "dataflows",
    "datapipelines",
    "deletedataflowdebugsession",
    "executedataflowdebugcommand",
    "getdataplaneaccess",
    "getfeaturevalue",
    "getgithubaccesstoken",
    "globalparameters",
    "hubs",
    "managedvirtualnetworks",
    "oauth",
    "privateendpointconnections",
    "privatelinkresources",
    "queryfeaturesvalue",
    "querydataflowdebugsessions",
    "querytriggerruns",
    "querytriggers",
    "triggers",
    // Below an integration runtime.
    "createlinkedintegrationruntime",
    "disableinteractivequery",
    "enableinteractivequery",
    "linkedintegrationruntime",
    "outboundnetworkdependenciesendpoints",
    "refreshobjectmetadata",
    "removelinks",
    "start",
    "stop",
    "synccredentials",
    "upgrade",
];

/// The factory of the path, in the subscription and group of the path.
pub(crate) async fn factory(call: &Call) -> Result<Factory> {
    let (name, group) = (call.parameter("factory"), call.parameter("group"));
    let found = call.service.state.factory(name).await?.filter(|factory| {
        factory.resource_group.eq_ignore_ascii_case(group)
            && factory.subscription.eq_ignore_ascii_case(call.parameter("subscription"))
    });
    found.ok_or_else(|| Refusal::no_resource("factories", name, group))
}

/// A list as the original answers it.
pub(crate) fn list(value: Vec<Value>) -> Value {
    json!({ "value": value })
}

/// The id of a resource inside a factory of version 2.
pub(crate) fn resource_id(factory: &Factory, collection: &str, name: &str) -> String {
    format!("{}/{collection}/{name}", factories::id(factory))
}
