//! Naming rules of the public model: what a factory, gateway, node, linked service, dataset or pipeline may be called.

/// A factory or an integration runtime: letters and digits in groups joined by single dashes, 3 to 63 characters.
pub fn is_factory_name(name: &str) -> bool {
    (3..=63).contains(&name.len())
        && name.split('-').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A node: starts with a letter or digit, then letters, digits, `_` and `-`, 1 to 150 characters.
pub fn is_node_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() <= 150
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A linked service, dataset, pipeline or v1 gateway: starts with a letter, digit or `_`; none of
/// `< > * # . % & : \ + ? /`; 1 to 260 characters.
pub fn is_resource_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.chars().count() <= 260
        && !name.chars().any(|c| "<>*#.%&:\\+?/".contains(c) || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        for (name, factory, node, resource) in [
            ("abc", true, true, true),
            ("ab", false, true, true),
            ("a-b-c", true, true, true),
            ("a--b", false, true, true),
            ("_x", false, false, true),
            ("Sales 2024", false, false, true),
            ("a.b", false, false, false),
            ("a/b", false, false, false),
            ("", false, false, false),
            ("-ab", false, false, false),
        ] {
            assert_eq!(is_factory_name(name), factory, "factory {name}");
            assert_eq!(is_node_name(name), node, "node {name}");
            assert_eq!(is_resource_name(name), resource, "resource {name}");
        }
    }
}
