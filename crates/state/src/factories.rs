//! Factories: one per name over the whole service; subscription and resource group are fixed at creation.

use dmg_protocol::FactoryId;
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

use crate::schema::{json, next, parse};
use crate::{Error, Moment, Result, State};

/// One factory.
#[derive(Debug, Clone, PartialEq)]
pub struct Factory {
    /// Its own id.
    pub id: FactoryId,
    /// Name.
    pub name: String,
    /// Subscription, the tenant.
    pub subscription: String,
    /// Resource group.
    pub resource_group: String,
    /// Location, tags and properties as sent.
    pub body: Value,
    /// Grows with every change.
    pub etag: i64,
    /// When it was made.
    pub created: Moment,
}

const COLUMNS: &str = "id, name, subscription, resource_group, body, etag, created";

fn read(row: &Row<'_>) -> rusqlite::Result<(Factory, String)> {
    let factory = Factory {
        id: FactoryId::new(row.get::<_, String>(0)?),
        name: row.get(1)?,
        subscription: row.get(2)?,
        resource_group: row.get(3)?,
        body: Value::Null,
        etag: row.get(5)?,
        created: row.get(6)?,
    };
    Ok((factory, row.get(4)?))
}

fn whole((mut factory, body): (Factory, String)) -> Result<Factory> {
    factory.body = parse("factory", &body)?;
    Ok(factory)
}

impl State {
    /// The factory of that name.
    pub async fn factory(&self, name: &str) -> Result<Option<Factory>> {
        let name = name.to_owned();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM factories WHERE name = ?1");
            t.prepare_cached(&sql)?.query_row([name], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// The factory of that id.
    pub async fn factory_by_id(&self, id: &FactoryId) -> Result<Option<Factory>> {
        let id = id.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM factories WHERE id = ?1");
            t.prepare_cached(&sql)?.query_row([id], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// All factories, by name.
    pub async fn factories(&self) -> Result<Vec<Factory>> {
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM factories ORDER BY name");
            let rows: Vec<_> = t.prepare_cached(&sql)?.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(whole).collect()
        })
        .await
    }

    /// Makes a factory, or replaces the body of the one of that id. `expect` is the etag it must still have.
    pub async fn put_factory(&self, factory: Factory, expect: Option<i64>) -> Result<Factory> {
        self.write(move |t| {
            let before: Option<(String, i64)> = t
                .query_row("SELECT id, etag FROM factories WHERE name = ?1", [&factory.name], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            match &before {
                Some((id, _)) if id != factory.id.as_str() => return Err(Error::Taken),
                _ if expect.is_some_and(|etag| before.as_ref().map(|(_, have)| *have) != Some(etag)) => {
                    return Err(Error::Changed);
                }
                _ => {}
            }
            let mut factory = factory;
            factory.etag = next(t, "etag")?;
            t.execute(
                "INSERT INTO factories (id, name, subscription, resource_group, body, etag, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body, etag = excluded.etag",
                params![
                    factory.id.as_str(),
                    factory.name,
                    factory.subscription,
                    factory.resource_group,
                    json(&factory.body),
                    factory.etag,
                    factory.created
                ],
            )?;
            Ok(factory)
        })
        .await
    }

    /// Deletes a factory with everything in it; says whether it was there.
    pub async fn delete_factory(&self, id: &FactoryId) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| Ok(t.execute("DELETE FROM factories WHERE id = ?1", [id])? > 0)).await
    }
}
