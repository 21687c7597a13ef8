//! Paths as jobs write them: names with `/` between, relative to the root of a store. What could lead out of the
//! root by its spelling alone is refused here; links are the business of the store.

use dmg_connector::Result;
use dmg_protocol::Fault;

/// The names of a path. Empty ones and `.` say nothing and are left out, so a leading `/` means the root of the store.
pub(crate) fn segments(path: &str) -> Result<Vec<&str>> {
    let refuse = |why: &str| {
        let shown: String = path.chars().filter(|c| !c.is_control()).collect();
        Fault::new("UserErrorSettings", format!("The path \"{shown}\" is refused: {why}."))
            .remedy("Correct the folder or the file name.")
    };
    if path.contains('\0') {
        return Err(refuse("it has a NUL character in it").into());
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return Err(refuse("\"..\" could lead out of the store's root").into());
    }
    Ok(names)
}

/// The folder and the last name of a path to a file.
pub(crate) fn folder_and_name(path: &str) -> Result<(String, String)> {
    let mut names = segments(path)?;
    match names.pop() {
        Some(name) if !path.ends_with('/') => Ok((names.join("/"), name.to_owned())),
        _ => Err(Fault::new("UserErrorSettings", format!("The path \"{path}\" names no file."))
            .remedy("Give the name of a file.")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(segments("/a//b/./c").unwrap(), ["a", "b", "c"]);
        assert_eq!(segments("").unwrap(), [""; 0]);
        assert_eq!(segments("a/..b").unwrap(), ["a", "..b"]);
        for path in ["..", "a/../b", "/..", "a\0b"] {
            assert_eq!(segments(path).unwrap_err().fault.code, "UserErrorSettings", "{path}");
        }
        assert_eq!(folder_and_name("a/b/c.txt").unwrap(), ("a/b".to_owned(), "c.txt".to_owned()));
        assert_eq!(folder_and_name("c.txt").unwrap(), (String::new(), "c.txt".to_owned()));
        assert!(folder_and_name("a/").is_err());
        assert!(folder_and_name("").is_err());
    }
}
