//! What `dmg up` says when everything runs: where things are, that the sample is proven, and what to do next. Every
//! command it prints works as it stands.

use dmg_protocol::Receipt;
use serde_json::{Value, json};

use super::folder::Folder;
use super::{FACTORY, sample};
use crate::command::receipt;
use crate::context::{RESOURCE_GROUP, SUBSCRIPTION};
use crate::display::Output;

/// Everything there is to say.
pub(crate) struct Ready<'a> {
    pub(crate) service: &'a str,
    pub(crate) folder: &'a Folder,
    pub(crate) run: &'a str,
    pub(crate) receipt: &'a Receipt,
    pub(crate) seconds: f64,
}

impl Ready<'_> {
    /// For programs.
    pub(crate) fn value(&self) -> Value {
        json!({
            "service": self.service,
            "page": format!("{}/dmg/status", self.service),
            "tokenFile": self.folder.token(),
            "ca": self.folder.certificate(),
            "factory": FACTORY,
            "data": self.folder.root(),
            "runId": self.run,
            "receipt": self.receipt,
            "seconds": self.seconds,
        })
    }

    /// For people.
    pub(crate) fn text(&self, output: Output) -> String {
        let program = program();
        let (service, folder) = (self.service, self.folder);
        let (token, ca) = (quoted(&folder.token()), quoted(&folder.certificate()));
        let database = quoted(&folder.sample().join(sample::DATABASE));
        let documents = quoted(&folder.documents());
        let table = sample::TABLE;
        let pipeline = sample::PIPELINE;
        let receipt: String = receipt::receipt_lines(self.receipt).iter().map(|line| format!("  {line}\n")).collect();
        let strong = |text: &str| output.strong(text);
        format!(
            "\
{running} Ready after {seconds:.1} s.

  service  {service}
  page     {service}/dmg/status (user: any, password: the token)
  token    {token}
  data     {data}

{sample}
{receipt}
{next}
  {program} login --service {service} \\
      --token-file {token} \\
      --ca {ca} --factory {FACTORY}

{own}
  {program} copy --from sqlite:{database} --table {table} --to file:orders.csv --mode overwrite
  {program} copy --from postgres://USER@HOST/DATABASE --table TABLE --to file:table.parquet

{documents_title}
  {program} apply {documents}
  {program} pipeline run {pipeline} --wait

{api}
  curl --cacert {ca} -H \"Authorization: Bearer $(cat {token})\" \\
      '{service}/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.DataFactory/factories?api-version=2018-06-01'

Stop with Ctrl-C. Everything is kept; dmg up goes on from here, dmg up --reset starts afresh.",
            running = strong("Data Management Gateway runs."),
            seconds = self.seconds,
            data = quoted(folder.root()),
            sample = strong(&format!("The sample copy (pipeline {pipeline}) is done and proven:")),
            next = strong("Next, in another terminal:"),
            own = strong("1. Your own database (first the sample's, then yours; the password is asked for)"),
            documents_title = strong("2. Your own JSON (change these files, or name your own folder)"),
            api = strong("3. The API"),
        )
    }
}

/// The program as it was called, so that a line can be copied back into the shell.
fn program() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    let called = std::path::Path::new(&called);
    // Without a slash the shell found it on its path, and will again.
    if called.components().count() <= 1 {
        return "dmg".to_owned();
    }
    quoted(&std::path::absolute(called).unwrap_or_else(|_| called.to_owned()))
}

/// A path as the shell takes it.
fn quoted(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_for_the_shell() {
        assert_eq!(quoted(std::path::Path::new("/a/b-c.pem")), "/a/b-c.pem");
        assert_eq!(quoted(std::path::Path::new("/a b/it's")), "'/a b/it'\\''s'");
    }
}
