//! Opens the two ends of a copy: a table store as it is, a byte store joined with a format.

use std::sync::Arc;

use dmg_connector::{ByteStoreConnector, Format, Result, Session, Sink, SinkRequest, Source, TableConnector};
use dmg_protocol::job::{Endpoint, FormatSpec, StoreObject, StoreRef};
use dmg_protocol::{Attempt, Fault, Secrets, VerifyLevel};

use crate::file_sink::FileSink;
use crate::file_source::FileSource;
use crate::layout::Layout;
use crate::redirect::Redirect;
use crate::retry::retrying;
use crate::watchdog::Watchdog;

/// The stores and formats of this program; joined by the gateway.
pub trait Stores: Send + Sync {
    /// The table store of that connector name.
    fn tables(&self, name: &str) -> Option<&dyn TableConnector>;
    /// The byte store of that connector name.
    fn files(&self, name: &str) -> Option<&dyn ByteStoreConnector>;
    /// The format.
    fn format(&self, spec: &FormatSpec) -> std::result::Result<Arc<dyn Format>, Fault>;
}

/// Rows a part should have when the sink does not care.
const ROWS_PER_PART: u64 = 500_000;

pub(crate) fn unknown(store: &str) -> Fault {
    Fault::new("UserErrorNotSupported", format!("There is no connector for a store of type \"{store}\" yet."))
}

/// What store that is, for people, before anything is known of it but its name.
pub(crate) fn title(stores: &dyn Stores, store: &StoreRef) -> String {
    let tables = stores.tables(&store.store).map(|connector| connector.descriptor().title);
    let title = tables.or_else(|| stores.files(&store.store).map(|connector| connector.descriptor().title));
    let title = title.unwrap_or(&store.store);
    match &store.linked_service {
        Some(name) => format!("{title}, linked service \"{name}\""),
        None => title.to_owned(),
    }
}

fn format_of(stores: &dyn Stores, endpoint: &Endpoint) -> Result<Arc<dyn Format>> {
    let spec = endpoint.format.as_ref().ok_or_else(|| {
        Fault::new("UserErrorSettings", "The file format is missing: neither the dataset nor the file name tells it.")
    })?;
    Ok(stores.format(spec)?)
}

/// Connects to a store and says what answered.
pub async fn probe(stores: &dyn Stores, store: &StoreRef, secrets: &Secrets, session: Session) -> Result<String> {
    let ambient = session.ambient.clone();
    retrying(&ambient, "probe", || async {
        if let Some(connector) = stores.tables(&store.store) {
            connector.validate(&store.settings)?;
            connector.open(&store.settings, secrets, session.clone()).await?.probe().await
        } else if let Some(connector) = stores.files(&store.store) {
            connector.validate(&store.settings)?;
            connector.open(&store.settings, secrets, session.clone()).await?.probe().await
        } else {
            Err(unknown(&store.store).into())
        }
    })
    .await
}

/// How many rows a part of the source should have to suit the sink.
pub(crate) fn rows_per_part(stores: &dyn Stores, sink: &Endpoint) -> Result<u64> {
    if sink.format.is_some() { Ok(format_of(stores, sink)?.fragment_limits().0) } else { Ok(ROWS_PER_PART) }
}

pub(crate) async fn source(
    stores: &dyn Stores,
    endpoint: &Endpoint,
    secrets: &Secrets,
    session: Session,
    lanes: usize,
    rows_per_part: u64,
) -> Result<Box<dyn Source>> {
    let ambient = session.ambient.clone();
    let store = &endpoint.store;
    retrying(&ambient, "open source", || async {
        if let Some(connector) = stores.tables(&store.store) {
            connector.validate(&store.settings)?;
            let connection = connector.open(&store.settings, secrets, session.clone()).await?;
            connection.source(&endpoint.object, lanes, rows_per_part).await
        } else if let Some(connector) = stores.files(&store.store) {
            connector.validate(&store.settings)?;
            let bytes = connector.open(&store.settings, secrets, session.clone()).await?;
            let format = format_of(stores, endpoint)?;
            let source = FileSource::open(bytes, format, &endpoint.object, &endpoint.declared, ambient.clone()).await?;
            Ok(Box::new(source) as Box<dyn Source>)
        } else {
            Err(unknown(&store.store).into())
        }
    })
    .await
}

pub(crate) async fn sink(
    stores: &dyn Stores,
    endpoint: &Endpoint,
    secrets: &Secrets,
    session: Session,
    request: SinkRequest,
    verify: VerifyLevel,
) -> Result<Box<dyn Sink>> {
    let ambient = session.ambient.clone();
    let store = &endpoint.store;
    retrying(&ambient, "open sink", || async {
        if let Some(connector) = stores.tables(&store.store) {
            connector.validate(&store.settings)?;
            let connection = connector.open(&store.settings, secrets, session.clone()).await?;
            connection.sink(request.clone()).await
        } else if let Some(connector) = stores.files(&store.store) {
            connector.validate(&store.settings)?;
            if let StoreObject::Table { .. } | StoreObject::Query { .. } = request.object {
                let message = format!("A store of type \"{}\" has files, not tables.", store.store);
                return Err(Fault::new("UserErrorSettings", message).into());
            }
            let bytes = connector.open(&store.settings, secrets, session.clone()).await?;
            let format = format_of(stores, endpoint)?;
            Ok(Box::new(FileSink::new(bytes, format, request.clone(), verify, ambient.clone())?) as Box<dyn Sink>)
        } else {
            Err(unknown(&store.store).into())
        }
    })
    .await
}

/// A file beside the target.
pub(crate) struct Beside<'a> {
    pub(crate) store: &'a StoreRef,
    pub(crate) layout: Layout,
    pub(crate) path: String,
}

/// Opens the store that rows left out are written to, under the watchdog.
pub(crate) async fn redirect(
    stores: &dyn Stores,
    beside: Beside<'_>,
    watchdog: &Watchdog,
    secrets: &Secrets,
    session: Session,
    attempt: &Attempt,
) -> Result<Redirect> {
    let ambient = session.ambient.clone();
    let Beside { store, layout, path } = &beside;
    retrying(&ambient, "open redirect", || async {
        let Some(connector) = stores.files(&store.store) else {
            let message = format!("Rows left out go into a file; a store of type \"{}\" takes none.", store.store);
            let remedy = "Name a file system or a blob container in the redirect settings.";
            return Err(Fault::new("UserErrorSettings", message).remedy(remedy).into());
        };
        connector.validate(&store.settings)?;
        let opening = connector.open(&store.settings, secrets, session.clone());
        let bytes = watchdog.opened_store(&title(stores, store), opening).await?;
        let format = stores.format(&FormatSpec::Text(layout.format()))?;
        Ok(Redirect::new(ambient.clone(), bytes, format, *layout, path.clone(), attempt.clone()))
    })
    .await
}
