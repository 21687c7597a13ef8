//! Every fault code there is. Codes are never reused. `cargo xtask docs` makes `docs/errors/<code>.md` from this
//! table; the symptom is what a person sees, the cause why it happens, the remedy what to do.

use crate::Retry;

/// One fault code.
#[derive(Debug, Clone, Copy)]
pub struct FaultInfo {
    /// The code.
    pub code: &'static str,
    /// Whether to try again, unless the place that raises it knows better.
    pub retry: Retry,
    /// What a person sees.
    pub symptom: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do, imperative.
    pub remedy: &'static str,
}

/// The entry of a code.
pub fn fault_info(code: &str) -> Option<&'static FaultInfo> {
    FAULTS.iter().find(|info| info.code == code)
}

macro_rules! faults {
    ($($code:ident $retry:ident { $symptom:literal $cause:literal $remedy:literal })*) => {
        /// All fault codes, in alphabetical order.
        pub const FAULTS: &[FaultInfo] = &[$(FaultInfo {
            code: stringify!($code),
            retry: Retry::$retry,
            symptom: $symptom,
            cause: $cause,
            remedy: $remedy,
        }),*];
    };
}

faults! {
    NetworkErrorProxyAuthentication AfterFix {
        "Registration or a copy stops with status 407."
        "A proxy between the gateway and the service asks for a log-in."
        "Give the proxy a log-in for this machine, or let it pass the service's address."
    }
    NetworkErrorServiceIdentity Never {
        "The node refuses to talk to the service it reached."
        "The service behind the address could not prove that it owns the identity key named in the gateway key. Somebody else answers there, or the service was set up anew."
        "Check the address in the key. If the service was set up anew, create a new key and register again."
    }
    NetworkErrorServiceUnreachable Later {
        "The service does not answer."
        "The name cannot be resolved, the port is closed, or the network is cut."
        "Check that the service runs and that this machine may open outbound connections to it."
    }
    NetworkErrorStoreUnreachable Later {
        "A store cannot be reached from the gateway."
        "The host name is wrong, the port is closed, or a firewall is in between."
        "Check host and port in the linked service, and that this machine may connect to them."
    }
    NetworkErrorTls AfterFix {
        "A TLS connection is refused because of the certificate."
        "The certificate is not signed by a known authority, has another name, or is out of date."
        "Trust the right authority (--ca for a service, --store-ca for a store), or correct the certificate."
    }
    StoreErrorAnswer Later {
        "A store gave an answer that its protocol does not allow."
        "Something else listens there, or the answer was damaged on its way."
        "Check that host and port lead to the store the linked service names."
    }
    StoreErrorCommitRefused Now {
        "The sink refused the commit because the target changed."
        "Another writer changed the target after the plan was made."
        "Run the copy again; it starts from the target as it is now."
    }
    StoreErrorConflict Later {
        "Two runs want the same target at once."
        "Another run holds the target's mark."
        "Wait for the other run to end, or cancel it."
    }
    StoreErrorFailed Later {
        "A store reported an error of its own."
        "The message carries the store's own words."
        "Read the store's message; mend what it names and run again."
    }
    StoreErrorNoSpace AfterFix {
        "Writing failed because there is no space left."
        "The disk or quota of the sink is full."
        "Free space at the sink and run again; the old content is whole."
    }
    StoreErrorTimeout Later {
        "A store did not do in time what it was asked."
        "It hangs, waits for somebody else's lock or has more to do than the time allows, or the network holds its answers back."
        "Look what the store waits for; if it needs that long, raise the limit that the message names."
    }
    SystemErrorAborted Now {
        "The worker of a copy ended without a result."
        "The process was killed, ran out of memory or crashed."
        "The attempt is repeated by itself. If it ends so again, lower the memory budget or look at the node's log."
    }
    SystemErrorInternal Never {
        "Something happened that should be impossible."
        "A fault in the program."
        "Report it with the run id and the node's log."
    }
    SystemErrorLeaseLost Now {
        "The node lost its lease before the commit."
        "It could not reach the service in time, and another node may have the job."
        "Nothing was committed. The job is taken again by itself."
    }
    SystemErrorState AfterFix {
        "The program's own state cannot be read or written."
        "A file is missing, damaged, from a newer version, or the disk is full."
        "Restore the folder from a backup, or start with a new one."
    }
    SystemErrorVerification Now {
        "The copy was stopped because what arrived differs from what was read."
        "Data was changed between reading and storing: by a fault of memory, disk, network, or of the program."
        "Nothing was committed. Run again; if it repeats, check the hardware and report it with the receipt."
    }
    UserErrorAuthentication AfterFix {
        "The API answers 401."
        "The token is missing or unknown."
        "Use the token from the service's admin.token file, or log in again with dmg login."
    }
    UserErrorBadRequest Never {
        "The API answers 400."
        "The request's address, version or body is not as the API asks."
        "Correct the request as the message says."
    }
    UserErrorBudgetExceeded AfterFix {
        "A value is too large for the memory budget."
        "One value is larger than a quarter of the budget."
        "Raise --memory, or leave the column out."
    }
    UserErrorCancelled Never {
        "The run was cancelled."
        "Somebody asked for it."
        "Run again when wanted; nothing was changed."
    }
    UserErrorCertificateLost AfterFix {
        "The gateway cannot open the credential."
        "The private key of the certificate it was sealed to is not on this node."
        "Import the gateway's certificate with dmg node certificate import, or enter the credential again."
    }
    UserErrorColumnLossy AfterFix {
        "The plan refuses a column because values would change."
        "The sink's type cannot hold what the source's type can."
        "Change the sink's type, leave the column out, or name it with --allow-lossy."
    }
    UserErrorColumnMissing AfterFix {
        "A column that the mapping names does not exist."
        "It was renamed or dropped, or the mapping has a typing error."
        "Correct the mapping or the table."
    }
    UserErrorContainerMissing AfterFix {
        "The container, folder or file does not exist."
        "The name is wrong, or it was removed."
        "Correct the name or create it."
    }
    UserErrorCredentialBound AfterFix {
        "The gateway refuses to use a credential."
        "It was sealed for another host, database, linked service or factory than the one it is asked to use it for."
        "If the change is meant, enter the credential again for the new target."
    }
    UserErrorCredentialDamaged AfterFix {
        "An encrypted credential cannot be opened."
        "The text was cut, altered or made for another program."
        "Enter the credential again."
    }
    UserErrorDocument AfterFix {
        "A document is refused."
        "It is not valid JSON, lacks a member or has one of the wrong type."
        "Correct the place the message names and send it again."
    }
    UserErrorDuplicateKey AfterFix {
        "A copy stops because two rows have the same key."
        "The target allows each key once, or rows are replaced by key, and the source has one key twice or the target has it already."
        "Correct the rows that the message names, name further key columns, or use mode upsert."
    }
    UserErrorExpression AfterFix {
        "An expression cannot be evaluated."
        "It has a syntax error, names something unknown, or is not supported yet."
        "Correct the expression at the place the message names."
    }
    UserErrorFileFormat AfterFix {
        "A file cannot be read in the format the dataset names."
        "It is damaged, cut, or of another format."
        "Check the file and the dataset's format settings."
    }
    UserErrorGatewayKey AfterFix {
        "The gateway key is refused."
        "It is cut, mistyped, was regenerated, or its gateway was deleted."
        "Copy the whole key again from the service, or create a new one."
    }
    UserErrorInUse AfterFix {
        "Something cannot be deleted because it is used."
        "Another document refers to it."
        "Delete or change the document that the message names first."
    }
    UserErrorLoginRefused AfterFix {
        "A store refused the log-in."
        "User name or password are wrong, or the user may not connect."
        "Correct the credential of the linked service, or grant the user access."
    }
    UserErrorName AfterFix {
        "A name is refused."
        "It does not follow the naming rules."
        "Choose a name by the rule in the message."
    }
    UserErrorNameTaken AfterFix {
        "A name is already taken."
        "Another resource has it, perhaps in the other dialect or in another group."
        "Choose another name."
    }
    UserErrorNoGatewayToSealTo AfterFix {
        "A secret is refused because no gateway could open it."
        "No gateway of the factory has a certificate yet."
        "Register a node first, then send the linked service again. Nothing was stored."
    }
    UserErrorNotFound Never {
        "Something named does not exist."
        "It was never made, was deleted, or the name has a typing error."
        "Check the name."
    }
    UserErrorNotSupported Never {
        "The program refuses something it cannot do yet."
        "The store, format, activity or option is not built yet."
        "See docs/support.md for what works today."
    }
    UserErrorPasswordInUri Never {
        "A URI with a password is refused."
        "Command lines are visible to other users and stay in the shell's history."
        "Leave the password, key or SAS token out of the URI; give it with --secret-file, or type it when asked."
    }
    UserErrorPermission AfterFix {
        "A store refused an action for lack of rights."
        "The user of the linked service may not do what the copy needs."
        "Grant the right that the message names."
    }
    UserErrorPrecondition Never {
        "The API answers 412."
        "The resource was changed since it was read."
        "Read it again and repeat the change."
    }
    UserErrorProcedureMissing AfterFix {
        "A stored procedure does not exist, or takes other parameters."
        "The name or a parameter has a typing error, or the user may not execute it."
        "Check the name with its schema and the parameters, or grant EXECUTE."
    }
    UserErrorReceipt Never {
        "A receipt does not verify."
        "Its text was changed, or it was signed by somebody else."
        "Do not trust it; fetch it again from the service."
    }
    UserErrorSchemaMismatch AfterFix {
        "Source and target do not fit."
        "A column has no counterpart, or types that cannot be converted."
        "Change the mapping or the target."
    }
    UserErrorSettings AfterFix {
        "A setting is refused."
        "A value is missing, of the wrong type or out of range."
        "Correct the setting that the message names."
    }
    UserErrorSourceChanged Now {
        "The source changed while it was read."
        "Another program wrote to it."
        "Run again when the source is at rest."
    }
    UserErrorTableMissing AfterFix {
        "A table does not exist."
        "It was dropped or renamed, or the user may not see it."
        "Check schema and name, or create it."
    }
    UserErrorTargetExists AfterFix {
        "The target file already exists."
        "A file cannot be appended to, and the copy was not told to replace it."
        "Choose another name, or use --mode overwrite."
    }
    UserErrorTooManySkipped AfterFix {
        "A copy that leaves out rows which do not fit stops all the same."
        "More rows were left out than the author allowed, by count or by share."
        "Correct the rows, beginning with the one that the message names, or allow more."
    }
    UserErrorValue AfterFix {
        "A value cannot be carried as the plan promised."
        "The value does not fit the target's type or format; the copy stopped before the commit."
        "Change the sink's type or the format, or correct the value in the source."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_unique_and_prefixed() {
        for pair in FAULTS.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
        for info in FAULTS {
            let prefixes = ["UserError", "StoreError", "NetworkError", "SystemError"];
            assert!(prefixes.iter().any(|prefix| info.code.starts_with(prefix)), "{}", info.code);
            for text in [info.symptom, info.cause, info.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", info.code);
            }
        }
    }
}
