//! Whether a server may send us on to another address. A log-in goes where its linked service says and nowhere else:
//! to the same host, to hosts that the linked service names as well, and within Azure to its own workers. Pure.

/// Domains of Azure whose gateways hand a client on to a worker of the same domain.
const AZURE: &[&str] = &[
    ".database.windows.net",
    ".database.usgovcloudapi.net",
    ".database.chinacloudapi.cn",
    ".database.cloudapi.de",
    ".sql.azuresynapse.net",
];

/// Whether a log-in for `host` may go to the host `to`. `named` are the hosts the linked service names, `checked` is
/// whether the certificate of who sends us on was checked.
pub(super) fn may_follow(host: &str, to: &str, named: &[String], checked: bool) -> bool {
    let (host, to) = (plain(host), plain(to));
    host == to || named.iter().any(|name| matches(&plain(name), &to)) || (checked && worker(&host, &to))
}

/// The hosts of a setting: `node1.corp,node2.corp` or `*.corp.example.com`.
pub(super) fn named(text: &str) -> Vec<String> {
    text.split([',', ';', ' ']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn plain(host: &str) -> String {
    host.trim().trim_end_matches('.').to_ascii_lowercase()
}

/// A name, or every name below the domain behind `*.`.
fn matches(name: &str, to: &str) -> bool {
    match name.strip_prefix('*') {
        Some(domain) => domain.len() > 1 && domain.starts_with('.') && to.len() > domain.len() && to.ends_with(domain),
        None => name == to,
    }
}

/// Only Azure itself can name hosts with a label `worker` in these domains.
fn worker(host: &str, to: &str) -> bool {
    AZURE.iter().any(|domain| host.ends_with(domain) && to.ends_with(domain) && to.contains(".worker."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_goes_only_where_it_may() {
        let azure = "sales.database.windows.net";
        let at_work = "d1.tr9.westeurope1-a.worker.database.windows.net";
        for (host, to, names, checked, expected) in [
            ("db01", "DB01.", "", false, true),
            ("db01", "db02", "", true, false),
            ("db01", "db02", "db03, db02", false, true),
            ("listener.corp.lan", "node2.corp.lan", "*.corp.lan", false, true),
            ("listener.corp.lan", "corp.lan", "*.corp.lan", false, false),
            ("listener.corp.lan", "evil-corp.lan", "*.corp.lan", false, false),
            ("db01", "anything", "*", true, false),
            (azure, at_work, "", true, true),
            (azure, at_work, "", false, false),
            (azure, "other.database.windows.net", "", true, false),
            ("db01", at_work, "", true, false),
            (azure, "x.worker.example.com", "", true, false),
        ] {
            assert_eq!(may_follow(host, to, &named(names), checked), expected, "{host} to {to} by \"{names}\"");
        }
    }
}
