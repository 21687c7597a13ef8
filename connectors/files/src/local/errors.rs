//! What the operating system says about a file, as a fault. One table.

use dmg_connector::Error;
use dmg_protocol::Fault;
use rustix::io::Errno;

/// A failure of the operating system while something was done (`read`, `write`, ...) to something (`file "a/b"`).
pub(super) fn failed(errno: Errno, doing: &str, what: &str, store: &str) -> Error {
    let fault = match errno {
        Errno::NOENT | Errno::NOTDIR => {
            Fault::new("UserErrorContainerMissing", format!("There is no {what} in {store}."))
        }
        Errno::ISDIR => {
            Fault::new("UserErrorContainerMissing", format!("The {what} in {store} is a folder, not a file."))
        }
        Errno::ACCESS | Errno::PERM => {
            Fault::new("UserErrorPermission", format!("The gateway's user may not {doing} the {what} in {store}."))
                .remedy(format!("Grant the user that the gateway runs as the right to {doing} it."))
        }
        Errno::ROFS => Fault::new(
            "UserErrorPermission",
            format!("The {what} in {store} is on a file system that is mounted read-only."),
        )
        .remedy("Mount it for writing, or choose another folder."),
        Errno::XDEV | Errno::LOOP => Fault::new(
            "UserErrorPermission",
            format!("The {what} leads out of {store} through a link, or into a circle of links."),
        )
        .remedy("Name the folder that the link points to in a linked service of its own."),
        Errno::NOSPC | Errno::DQUOT => {
            Fault::new("StoreErrorNoSpace", format!("There is no space left for the {what} in {store}."))
        }
        Errno::NAMETOOLONG => {
            Fault::new("UserErrorSettings", format!("The name of the {what} in {store} is too long."))
                .remedy("Choose a shorter name.")
        }
        Errno::NOSYS => {
            Fault::new("UserErrorNotSupported", format!("This machine's kernel cannot open the {what} safely."))
                .remedy("Run the gateway on Linux 5.6 or newer.")
        }
        other => {
            let words = std::io::Error::from(other).to_string();
            Fault::new("StoreErrorFailed", format!("The gateway could not {doing} the {what} in {store}: {words}."))
        }
    };
    Error::caused(fault, std::io::Error::from(errno))
}

/// The same for an error of the standard library.
pub(super) fn failed_io(error: &std::io::Error, doing: &str, what: &str, store: &str) -> Error {
    failed(Errno::from_io_error(error).unwrap_or(Errno::IO), doing, what, store)
}
