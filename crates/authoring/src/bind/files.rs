//! Files and blobs: where a dataset points to, and which files its source reads or its sink writes.

use dmg_protocol::Fault;
use dmg_protocol::job::StoreObject;
use serde_json::Value;

use super::copy::{refuse_member, wrong_type};
use super::dataset::BoundDataset;
use crate::Dialect;
use crate::member::{get, items, present, text, truth, type_of};

/// Location types and old dataset types per connector.
const LOCATIONS: &[(&str, &str, &str)] =
    &[("azblob", "AzureBlobStorageLocation", "AzureBlob"), ("file", "FileServerLocation", "FileShare")];

/// A folder and perhaps a file below a store's root.
struct Place {
    folder: String,
    file: Option<String>,
}

/// The files to read.
pub(super) fn source(dialect: Dialect, dataset: &BoundDataset, source: &Value) -> Result<StoreObject, Fault> {
    fitting("source", dataset, type_of(source), "Source")?;
    let mut place = place(dataset)?;
    let settings = get(source, "storeSettings").unwrap_or(&Value::Null);
    let set = |name: &str| present(settings, name).filter(|value| **value != Value::Bool(false) && **value != "");
    for member in [
        "wildcardFolderPath",
        "prefix",
        "fileListPath",
        "modifiedDatetimeStart",
        "modifiedDatetimeEnd",
        "enablePartitionDiscovery",
        "deleteFilesAfterCompletion",
    ] {
        if set(member).is_some() {
            return Err(refuse_member("source", member));
        }
    }
    for member in ["modifiedDatetimeStart", "modifiedDatetimeEnd"] {
        if present(&dataset.members, member).is_some_and(|value| value != "") {
            return Err(refuse_member("dataset", member));
        }
    }
    for (value, member) in [
        (set("wildcardFileName"), "wildcardFileName"),
        (set("fileFilter"), "fileFilter"),
        (present(&dataset.members, "fileFilter"), "fileFilter"),
    ] {
        match value.map(|value| value.as_str().unwrap_or_default()) {
            None | Some("") => {}
            Some("*" | "*.*") => place.file = None,
            Some(_) => return Err(refuse_member("source", member)),
        }
    }
    match place.file.as_deref() {
        Some("*") => place.file = None,
        Some(file) if file.contains(['*', '?']) => return Err(refuse_member("source", "a file name with wildcards")),
        _ => {}
    }
    // Version 1 reads sub-folders of blobs by default, of file servers not; version 2 always does.
    let usual = dialect == Dialect::V2 || !type_of(source).eq_ignore_ascii_case("FileSystemSource");
    let wanted = get(settings, "recursive").or_else(|| get(source, "recursive"));
    let recursive = wanted.and_then(truth).unwrap_or(usual) && place.file.is_none();
    Ok(StoreObject::Files { folder: place.folder, file: place.file, recursive })
}

/// The files to write. A table goes into the dataset's file, or into files of the dataset's folder.
pub(super) fn sink(dataset: &BoundDataset, sink: &Value, source: &StoreObject) -> Result<StoreObject, Fault> {
    fitting("sink", dataset, type_of(sink), "Sink")?;
    let mut place = place(dataset)?;
    if place.file.as_deref().is_some_and(|file| file.contains(['*', '?'])) {
        let message = format!("Wildcard in path is not supported in sink dataset \"{}\".", dataset.name);
        return Err(Fault::new("UserErrorSettings", message).remedy("Name one file, or leave fileName out."));
    }
    let format = get(sink, "formatSettings").unwrap_or(&Value::Null);
    for member in ["maxRowsPerFile", "fileNamePrefix"] {
        if present(format, member).is_some_and(|value| value != "") {
            return Err(refuse_member("sink", member));
        }
    }
    let settings = get(sink, "storeSettings").unwrap_or(&Value::Null);
    if items(settings, "metadata").iter().next().is_some() || items(sink, "metadata").iter().next().is_some() {
        return Err(refuse_member("sink", "metadata"));
    }
    if let StoreObject::Files { file, .. } = source
        && place.file.is_none()
    {
        match file {
            // One file keeps its name, as with copyBehavior PreserveHierarchy.
            Some(file) => place.file = Some(file.clone()),
            None => {
                let message = "A folder of files cannot be copied file by file yet.";
                return Err(Fault::new("UserErrorNotSupported", message)
                    .remedy("Name a file in the sink dataset; all rows go into it. Or copy one file at a time."));
            }
        }
    }
    Ok(StoreObject::Files { folder: place.folder, file: place.file, recursive: false })
}

/// Checks that the type of source or sink belongs to the dataset's format and store.
fn fitting(side: &str, dataset: &BoundDataset, name: &str, ending: &str) -> Result<(), Fault> {
    let wanted: &[&str] = match (dataset.type_name.as_str(), dataset.store.store.as_str()) {
        ("DelimitedText", _) => &["DelimitedText"],
        ("Parquet", _) => &["Parquet"],
        ("AzureBlob", "azblob") => &["Blob", "FileSystem"],
        ("FileShare", "file") => &["FileSystem"],
        ("Avro" | "Binary" | "Excel" | "Iceberg" | "Json" | "Orc" | "Xml", _) => {
            let message = format!(
                "The dataset \"{}\" is of format {}, which is not supported yet.",
                dataset.name, dataset.type_name
            );
            return Err(Fault::new("UserErrorNotSupported", message).remedy("Use DelimitedText or Parquet."));
        }
        _ => &[],
    };
    if wanted.iter().any(|wanted| format!("{wanted}{ending}").eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    Err(wrong_type(side, name, dataset))
}

/// Folder and file of a dataset, in slashes, below the store's root.
fn place(dataset: &BoundDataset) -> Result<Place, Fault> {
    let connector = dataset.store.store.as_str();
    let found = LOCATIONS.iter().find(|(known, ..)| *known == connector);
    let (holder, container) = match get(&dataset.members, "location") {
        Some(location) => {
            let fits = found.is_some_and(|(_, kind, _)| kind.eq_ignore_ascii_case(type_of(location)));
            if !fits {
                let message = format!(
                    "The location of dataset \"{}\" is a {}, which does not fit its linked service.",
                    dataset.name,
                    type_of(location)
                );
                return Err(Fault::new("UserErrorDocument", message).remedy("Use the location type of the store."));
            }
            (location, text(location, "container"))
        }
        None => (&dataset.members, None),
    };
    if items(&dataset.members, "partitionedBy").iter().next().is_some() {
        return Err(Fault::new(
            "UserErrorNotSupported",
            format!("The path of dataset \"{}\" is partitioned by slices, and a run on demand has none.", dataset.name),
        )
        .remedy("Write the path out, until schedules of version 1 are built."));
    }
    let part = |name: &str| text(holder, name).map(slashes).filter(|text| !text.is_empty());
    let folder = [container.map(slashes), part("folderPath")];
    let mut folder = folder.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    let file = part("fileName");
    if connector == "azblob" {
        if let Some(box_name) = dataset.store.settings.get("container").and_then(Value::as_str) {
            // The address of the linked service already ends in the container.
            if let Some(rest) = folder.strip_prefix(box_name)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                folder = rest.trim_start_matches('/').to_owned();
            }
        } else if folder.is_empty() {
            let message = format!("The dataset \"{}\" names no container.", dataset.name);
            return Err(
                Fault::new("UserErrorSettings", message).remedy("Add the container to its location or folderPath.")
            );
        }
    }
    Ok(Place { folder, file })
}

/// Slashes of one kind, none at the ends, no leading `./`.
fn slashes(path: &str) -> String {
    let path = path.replace('\\', "/");
    let path = path.trim().trim_matches('/');
    let path = path.strip_prefix("./").unwrap_or(path);
    if path == "." { String::new() } else { path.to_owned() }
}
