//! The options of `dmg copy` that say how numbers, dates and times look in texts, as `typeConversionSettings` of a
//! document do.

use clap::Args;
use dmg_protocol::job::TypeConversion;

/// How texts are read and written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Texts")]
pub(crate) struct TextArguments {
    /// How numbers, dates and times look in texts: de-DE, fr-FR and others; else as in programs
    #[arg(long, value_name = "CULTURE")]
    culture: Option<String>,
    /// .NET format of dates in texts: dd.MM.yyyy
    #[arg(long, value_name = "FORMAT")]
    date_format: Option<String>,
    /// .NET format of timestamps in texts: dd.MM.yyyy HH:mm:ss
    #[arg(long, value_name = "FORMAT")]
    timestamp_format: Option<String>,
    /// .NET format of instants, which have an offset, in texts: yyyy-MM-dd HH:mm:sszzz
    #[arg(long, value_name = "FORMAT")]
    instant_format: Option<String>,
    /// .NET format of times of day in texts: HH:mm
    #[arg(long, value_name = "FORMAT")]
    time_format: Option<String>,
}

impl TextArguments {
    /// As the engine wants it.
    pub(crate) fn conversion(&self) -> TypeConversion {
        TypeConversion {
            culture: self.culture.clone(),
            date_format: self.date_format.clone(),
            timestamp_format: self.timestamp_format.clone(),
            instant_format: self.instant_format.clone(),
            time_format: self.time_format.clone(),
            ..TypeConversion::default()
        }
    }
}
