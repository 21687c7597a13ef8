//! Checks of pipelines and their activities.

use std::collections::BTreeSet;

use dmg_protocol::names::is_resource_name;
use serde_json::Value;

use super::{array, generation, name_rule, object, reference, required};
use crate::expression::has_expression;
use crate::member::{items, present, text, type_of};
use crate::{Dialect, Finding, types};

/// Most activities of a pipeline, inner ones included.
const ACTIVITIES_MAX: usize = 120;

/// Members of container activities that hold activities.
const INNER: &[&str] = &["activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities"];

pub(super) fn check(dialect: Dialect, properties: &Value, findings: &mut Vec<Finding>) {
    let path = "$.properties.activities";
    if present(properties, "activities").is_none() {
        findings.push(Finding::error(path, "The array \"activities\" is missing."));
    }
    let list = array(properties, "activities", "$.properties", findings);
    let mut count = 0;
    activities(dialect, list, path, &mut count, findings);
    if count > ACTIVITIES_MAX {
        let message = format!("A pipeline has at most {ACTIVITIES_MAX} activities; this one has {count}.");
        findings.push(Finding::error(path, message));
    }
    if dialect == Dialect::V1 && present(properties, "start").is_some() != present(properties, "end").is_some() {
        findings.push(Finding::error("$.properties.start", "\"start\" and \"end\" are given both or not at all."));
    }
}

fn activities(dialect: Dialect, list: &[Value], path: &str, count: &mut usize, findings: &mut Vec<Finding>) {
    let mut names = BTreeSet::new();
    for (index, activity) in list.iter().enumerate() {
        *count += 1;
        let path = format!("{path}[{index}]");
        if !activity.is_object() {
            findings.push(Finding::error(path, "An activity is an object."));
            continue;
        }
        match text(activity, "name") {
            Some(name) if !is_resource_name(name) => {
                findings.push(Finding::error(format!("{path}.name"), name_rule(name)));
            }
            Some(name) => {
                if !names.insert(name.to_lowercase()) {
                    let message = format!("Two activities are called \"{name}\".");
                    findings.push(Finding::error(format!("{path}.name"), message));
                }
            }
            None => findings.push(Finding::error(format!("{path}.name"), "The member \"name\" is missing.")),
        }
        one(dialect, activity, &path, count, findings);
    }
    dependencies(list, path, &names, findings);
}

fn one(dialect: Dialect, activity: &Value, path: &str, count: &mut usize, findings: &mut Vec<Finding>) {
    let name = type_of(activity);
    let Some(known) = types::activity(dialect, name) else {
        let message = match name {
            "" => "The member \"type\" is missing.".to_owned(),
            name => format!("\"{name}\" is not a type of activity in {}.", generation(dialect)),
        };
        findings.push(Finding::error(format!("{path}.type"), message));
        return;
    };
    let inner = format!("{path}.typeProperties");
    let members = object(activity, "typeProperties", path, findings).unwrap_or(&Value::Null);
    required(members, known.required, &inner, findings);
    if known.name == "Copy" {
        copy(dialect, activity, members, path, findings);
    }
    if known.name == "SqlServerStoredProcedure" {
        called_in(dialect, activity, path, findings);
    }
    policy(dialect, activity, path, findings);
    for member in INNER {
        let list = array(members, member, &inner, findings);
        activities(dialect, list, &format!("{inner}.{member}"), count, findings);
    }
    for (index, case) in items(members, "cases").iter().enumerate() {
        let path = format!("{inner}.cases[{index}]");
        let list = array(case, "activities", &path, findings);
        activities(dialect, list, &format!("{path}.activities"), count, findings);
    }
}

fn copy(dialect: Dialect, activity: &Value, members: &Value, path: &str, findings: &mut Vec<Finding>) {
    for (side, find) in [("source", types::source as fn(Dialect, &str) -> Option<&'static str>), ("sink", types::sink)]
    {
        let place = format!("{path}.typeProperties");
        let Some(end) = object(members, side, &place, findings) else { continue };
        match type_of(end) {
            "" => {
                let message = format!("The {side} has no \"type\".");
                findings.push(Finding::error(format!("{place}.{side}.type"), message));
            }
            name if find(dialect, name).is_none() => {
                let message = format!("\"{name}\" is not a type of {side} in {}.", generation(dialect));
                findings.push(Finding::error(format!("{place}.{side}.type"), message));
            }
            _ => {}
        }
    }
    for side in ["inputs", "outputs"] {
        let ends = array(activity, side, path, findings);
        let place = format!("{path}.{side}");
        let enough = match (dialect, side) {
            (Dialect::V1, "inputs") => !ends.is_empty(),
            _ => ends.len() == 1,
        };
        if !enough {
            let message = format!("A Copy activity has exactly one dataset in \"{side}\".");
            findings.push(Finding::error(&place, message));
        }
        for (index, end) in ends.iter().enumerate() {
            let place = format!("{place}[{index}]");
            match dialect {
                Dialect::V1 => required(end, &["name"], &place, findings),
                Dialect::V2 => reference(end, "DatasetReference", &place, findings),
            }
        }
    }
    for (member, fault) in crate::bind::copy::contradictions(members) {
        findings.push(Finding::error(format!("{path}.typeProperties.{member}"), fault.message));
    }
    for (member, least) in [("parallelCopies", 1), ("dataIntegrationUnits", 2)] {
        let Some(value) = present(members, member).filter(|value| !has_expression(value)) else { continue };
        if value.as_i64().is_none_or(|value| value < least) {
            let message = format!("\"{member}\" is a whole number from {least} on.");
            findings.push(Finding::error(format!("{path}.typeProperties.{member}"), message));
        }
    }
}

/// A procedure is called in a database: version 2 names its linked service, version 1 may name it by an output dataset.
fn called_in(dialect: Dialect, activity: &Value, path: &str, findings: &mut Vec<Finding>) {
    let place = format!("{path}.linkedServiceName");
    match (dialect, present(activity, "linkedServiceName")) {
        (Dialect::V2, Some(service)) => reference(service, "LinkedServiceReference", &place, findings),
        (Dialect::V1, None) if !items(activity, "outputs").is_empty() => {}
        (_, None) => {
            let message = "The activity names no linked service to call its procedure in.";
            findings.push(Finding::error(place, message));
        }
        (Dialect::V1, Some(_)) => {}
    }
}

fn policy(dialect: Dialect, activity: &Value, path: &str, findings: &mut Vec<Finding>) {
    let Some(policy) = object(activity, "policy", path, findings) else { return };
    let whole = |member: &str, least: i64, most: i64, findings: &mut Vec<Finding>| {
        let Some(value) = present(policy, member).filter(|value| !has_expression(value)) else { return };
        let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        if number.is_none_or(|number| !(least..=most).contains(&number)) {
            let message = format!("\"{member}\" is a whole number from {least} to {most}.");
            findings.push(Finding::error(format!("{path}.policy.{member}"), message));
        }
    };
    whole("retry", 0, i64::from(i32::MAX), findings);
    match dialect {
        Dialect::V1 => {
            whole("concurrency", 1, 10, findings);
            whole("longRetry", 0, 10, findings);
        }
        Dialect::V2 => whole("retryIntervalInSeconds", 30, 86_400, findings),
    }
    if let Some(timeout) = text(policy, "timeout").filter(|text| !text.contains('@'))
        && crate::bind::time_span(timeout).is_none()
    {
        let message = format!("The timeout \"{timeout}\" is not a time span such as 0.12:00:00.");
        findings.push(Finding::error(format!("{path}.policy.timeout"), message));
    }
}

const CONDITIONS: &[&str] = &["Succeeded", "Failed", "Skipped", "Completed"];

/// `dependsOn` names activities of the same list, with known conditions and without a circle.
fn dependencies(list: &[Value], path: &str, names: &BTreeSet<String>, findings: &mut Vec<Finding>) {
    let mut edges = Vec::new();
    for (index, activity) in list.iter().enumerate() {
        let path = format!("{path}[{index}]");
        for (number, dependency) in array(activity, "dependsOn", &path, findings).iter().enumerate() {
            let path = format!("{path}.dependsOn[{number}]");
            let on = text(dependency, "activity").unwrap_or_default();
            if !names.contains(&on.to_lowercase()) {
                let message = format!("There is no activity \"{on}\" beside this one.");
                findings.push(Finding::error(format!("{path}.activity"), message));
            }
            edges.push((text(activity, "name").unwrap_or_default().to_lowercase(), on.to_lowercase()));
            for condition in items(dependency, "dependencyConditions") {
                let name = condition.as_str().unwrap_or_default();
                if !CONDITIONS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                    let message = format!("A condition is one of {}.", CONDITIONS.join(", "));
                    findings.push(Finding::error(format!("{path}.dependencyConditions"), message));
                }
            }
        }
    }
    // Activities whose dependencies are all settled are taken away; what cannot be taken away is a circle.
    let mut open: BTreeSet<&String> = names.iter().collect();
    loop {
        let settled: Vec<&String> = open
            .iter()
            .copied()
            .filter(|name| !edges.iter().any(|(from, to)| from == *name && open.contains(to)))
            .collect();
        if settled.is_empty() {
            break;
        }
        for name in settled {
            open.remove(name);
        }
    }
    if !open.is_empty() {
        let circle: Vec<&str> = open.iter().map(|name| name.as_str()).collect();
        let message = format!("These activities wait for each other: {}.", circle.join(", "));
        findings.push(Finding::error(path, message));
    }
}
