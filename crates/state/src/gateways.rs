//! Gateways: their keys' generations and their certificate. The key secrets are derived elsewhere and never stored.

use dmg_protocol::{FactoryId, GatewayId};
use rusqlite::{OptionalExtension as _, Row, params};
use serde_json::Value;

use crate::schema::{json, next, parse};
use crate::{Error, Moment, Result, State};

/// One gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Stable over its whole life.
    pub id: GatewayId,
    /// Its factory.
    pub factory: FactoryId,
    /// Name.
    pub name: String,
    /// The properties as sent.
    pub body: Value,
    /// How often each key was regenerated.
    pub generations: [i64; 2],
    /// PEM of the certificate that credentials are sealed to.
    pub certificate: Option<String>,
    /// Grows with every change of the resource.
    pub etag: i64,
    /// When it was made.
    pub created: Moment,
}

/// One of the two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// `authKey1`, in version 1 also the single key.
    One,
    /// `authKey2`.
    Two,
}

const COLUMNS: &str = "id, factory, name, body, generation1, generation2, certificate, etag, created";

fn read(row: &Row<'_>) -> rusqlite::Result<(Gateway, String)> {
    let gateway = Gateway {
        id: GatewayId::new(row.get::<_, String>(0)?),
        factory: FactoryId::new(row.get::<_, String>(1)?),
        name: row.get(2)?,
        body: Value::Null,
        generations: [row.get(4)?, row.get(5)?],
        certificate: row.get(6)?,
        etag: row.get(7)?,
        created: row.get(8)?,
    };
    Ok((gateway, row.get(3)?))
}

fn whole((mut gateway, body): (Gateway, String)) -> Result<Gateway> {
    gateway.body = parse("gateway", &body)?;
    Ok(gateway)
}

impl State {
    /// The gateway of that name.
    pub async fn gateway(&self, factory: &FactoryId, name: &str) -> Result<Option<Gateway>> {
        let (factory, name) = (factory.to_string(), name.to_owned());
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM gateways WHERE factory = ?1 AND name = ?2");
            t.prepare_cached(&sql)?.query_row([factory, name], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// The gateway of that id.
    pub async fn gateway_by_id(&self, id: &GatewayId) -> Result<Option<Gateway>> {
        let id = id.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM gateways WHERE id = ?1");
            t.prepare_cached(&sql)?.query_row([id], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// The gateways of a factory, by name.
    pub async fn gateways(&self, factory: &FactoryId) -> Result<Vec<Gateway>> {
        let factory = factory.to_string();
        self.read(move |t| {
            let sql = format!("SELECT {COLUMNS} FROM gateways WHERE factory = ?1 ORDER BY name");
            let rows: Vec<_> = t.prepare_cached(&sql)?.query_map([factory], read)?.collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(whole).collect()
        })
        .await
    }

    /// Makes a gateway, or replaces the body of the one of that name. `expect` is the etag it must still have.
    pub async fn put_gateway(
        &self,
        new_id: GatewayId,
        factory: &FactoryId,
        name: &str,
        body: Value,
        expect: Option<i64>,
        now: Moment,
    ) -> Result<Gateway> {
        let (factory, name) = (factory.to_string(), name.to_owned());
        self.write(move |t| {
            let etag: Option<i64> = t
                .query_row("SELECT etag FROM gateways WHERE factory = ?1 AND name = ?2", [&factory, &name], |row| {
                    row.get(0)
                })
                .optional()?;
            if expect.is_some() && expect != etag {
                return Err(Error::Changed);
            }
            let sql = format!(
                "INSERT INTO gateways (id, factory, name, body, generation1, generation2, etag, created)
                 VALUES (?1, ?2, ?3, ?4, 1, 1, ?5, ?6)
                 ON CONFLICT (factory, name) DO UPDATE SET body = excluded.body, etag = excluded.etag
                 RETURNING {COLUMNS}"
            );
            whole(t.query_row(
                &sql,
                params![new_id.as_str(), factory, name, json(&body), next(t, "etag")?, now],
                read,
            )?)
        })
        .await
    }

    /// Makes a key's earlier text worthless for registration.
    pub async fn regenerate_key(&self, id: &GatewayId, slot: Slot) -> Result<Option<Gateway>> {
        let id = id.to_string();
        self.write(move |t| {
            let column = match slot {
                Slot::One => "generation1",
                Slot::Two => "generation2",
            };
            let sql = format!("UPDATE gateways SET {column} = {column} + 1 WHERE id = ?1 RETURNING {COLUMNS}");
            t.query_row(&sql, [id], read).optional()?.map(whole).transpose()
        })
        .await
    }

    /// Stores the certificate. Without `replace` a different one that is already there stays, and false is answered.
    pub async fn put_certificate(&self, id: &GatewayId, pem: &str, replace: bool) -> Result<bool> {
        let (id, pem) = (id.to_string(), pem.to_owned());
        self.write(move |t| {
            let changed = t.execute(
                "UPDATE gateways SET certificate = ?2
                 WHERE id = ?1 AND (certificate IS NULL OR certificate = ?2 OR ?3)",
                params![id, pem, replace],
            )?;
            Ok(changed > 0)
        })
        .await
    }

    /// Deletes a gateway with its nodes and jobs; says whether it was there.
    pub async fn delete_gateway(&self, id: &GatewayId) -> Result<bool> {
        let id = id.to_string();
        self.write(move |t| Ok(t.execute("DELETE FROM gateways WHERE id = ?1", [id])? > 0)).await
    }
}
