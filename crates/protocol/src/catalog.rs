//! The catalog: descriptors of all stores, as data. The service knows stores only from here.

use serde::{Deserialize, Serialize};

/// What a store is and can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreDescriptor {
    /// Connector name: `postgres`.
    pub name: &'static str,
    /// For people: `PostgreSQL`.
    pub title: &'static str,
    /// `files` or `tables`.
    pub family: &'static str,
    /// Linked service types of version 1.
    pub v1_types: &'static [&'static str],
    /// Linked service types of version 2.
    pub v2_types: &'static [&'static str],
    /// Settings, secrets included.
    pub settings: &'static [SettingDescriptor],
    /// What the store can do; the conformance suite tests what is claimed and that the rest is refused.
    pub capabilities: &'static [Capability],
}

/// One setting of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingDescriptor {
    /// camelCase name in [`crate::job::StoreRef::settings`] or among the secrets.
    pub name: &'static str,
    /// Other names by which documents and connection strings call it; matched without case, blanks and `_`.
    pub aliases: &'static [&'static str],
    /// What it holds.
    pub kind: SettingKind,
    /// Whether it must be given.
    pub required: bool,
    /// Whether an envelope is bound to it: the target an attacker would like to change.
    pub bound: bool,
    /// One line for people.
    pub help: &'static str,
}

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SettingKind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// A secret: only ever sealed.
    Secret,
}

/// One ability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Capability {
    /// Reads tables.
    ReadTable,
    /// Reads by query.
    ReadQuery,
    /// Splits a table into parts that share one snapshot.
    ReadParts,
    /// Appends rows.
    WriteAppend,
    /// Replaces the whole content in one step.
    WriteOverwrite,
    /// Creates a missing table.
    CreateTable,
    /// Reads files.
    ReadFiles,
    /// Writes files.
    WriteFiles,
    /// What was staged can be read back before the commit.
    ReadStaged,
    /// What was committed can be read back.
    ReadBack,
    /// Says whether it can be reached.
    Probe,
    /// Replaces rows by key and adds the others, in one step.
    WriteUpsert,
    /// Replaces the rows of one slice, in one step.
    WriteSlice,
    /// Hands rows to a stored procedure.
    WriteProcedure,
    /// Calls stored procedures.
    CallProcedure,
    /// Lists schemas, tables and columns.
    Browse,
}
