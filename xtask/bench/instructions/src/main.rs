//! One hot loop over so many rows, to be counted under callgrind: twice as many rows less as many is what rows cost.
//! See `xtask/bench/instructions.py`.

mod files;
mod rows;
mod tables;
mod tds;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows = runtime.block_on(run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()))?;
    println!("{rows}");
    Ok(())
}

async fn run(arguments: &[&str]) -> Result<usize> {
    let number = |text: &str| text.parse::<usize>().with_context(|| format!("{text} is no number"));
    match *arguments {
        ["read", store, table] => tables::read(store, table).await,
        ["write", store, table, rows] => tables::write(store, table, number(rows)?, false).await,
        ["fill", store, table, rows] => tables::write(store, table, number(rows)?, true).await,
        ["mssql-tds-read", sql] => tds::read(sql).await,
        ["mssql-tds-write", table, rows] => tds::write(table, number(rows)?).await,
        ["tds-script", sql] => tds::script(sql).await,
        ["encode", format, rows] => Ok(files::write(files::format(format)?.as_ref(), number(rows)?)?.len()),
        // Encodes first: what decoding costs is this less `encode`.
        ["decode", format, rows] => {
            let format = files::format(format)?;
            let file = files::write(format.as_ref(), number(rows)?)?;
            files::read(format.as_ref(), file).await
        }
        ["digest", rows] => files::digest(number(rows)?),
        _ => bail!("unknown arguments {arguments:?}"),
    }
}
