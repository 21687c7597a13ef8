//! What a proxy does to a connection, and how that is written in one line of text.

use std::str::FromStr;
use std::time::Duration;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens when the place is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Both ends see an orderly end.
    Cut,
    /// Both ends see a reset.
    Reset,
    /// Nothing goes either way any more, and both ends stay open.
    HalfOpen,
    /// One bit of that byte is turned.
    Corrupt,
    /// From there on, each piece waits.
    Delay(Duration),
    /// From there on, at most so many bytes a second.
    Throttle(u64),
    /// The answer ends there, in an orderly way; what the client still sends is read.
    Truncate,
    /// HTTP: a request is answered with that status and `Retry-After` of so many seconds, and not passed on.
    Http(u16, u32),
}

/// A fault: what, where, and to which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub action: Action,
    /// After so many bytes of that way; for HTTP, after so many requests of a connection.
    pub after: u64,
    /// The way whose bytes count.
    pub way: Way,
    /// How many connections are hit, in the order in which they get there.
    pub times: u64,
    /// How many connections are left alone before.
    pub skip: u64,
}

impl Fault {
    /// A proxy that only passes on.
    pub const NONE: Fault = Fault { action: Action::None, after: 0, way: Way::Up, times: 0, skip: 0 };

    /// The fault with a place that follows from a seed, within so many bytes.
    #[must_use]
    pub fn placed(self, seed: u64, within: u64) -> Fault {
        Fault { after: dmg_ambient::Ambient::test(seed).draw() % within.max(1), ..self }
    }
}

/// A line that says no fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("\"{0}\" is no fault; such as: cut after=1000 way=down times=1 skip=0")]
pub struct NoFault(String);

impl FromStr for Fault {
    type Err = NoFault;

    /// `none | cut | reset | halfopen | corrupt | truncate | delay | throttle | http`, then `name=number` words:
    /// `after`, `times` (0: every time), `skip`, `ms`, `rate`, `status`, `retry`, `seed`, `within`, and `way=up|down`.
    fn from_str(line: &str) -> Result<Fault, NoFault> {
        let no = || NoFault(line.to_owned());
        let mut words = line.split_whitespace();
        let action = words.next().ok_or_else(no)?;
        let mut fault = Fault { times: 1, ..Fault::NONE };
        let (mut ms, mut rate, mut status, mut retry, mut seed, mut within) = (0, 0, 503, 0, None, 1);
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(no)?;
            if name == "way" {
                fault.way = match value {
                    "up" => Way::Up,
                    "down" => Way::Down,
                    _ => return Err(no()),
                };
                continue;
            }
            let value: u64 = value.parse().map_err(|_| no())?;
            match name {
                "after" => fault.after = value,
                "times" => fault.times = if value == 0 { u64::MAX } else { value },
                "skip" => fault.skip = value,
                "ms" => ms = value,
                "rate" => rate = value,
                "status" => status = value,
                "retry" => retry = value,
                "seed" => seed = Some(value),
                "within" => within = value,
                _ => return Err(no()),
            }
        }
        fault.action = match action {
            "none" => Action::None,
            "cut" => Action::Cut,
            "reset" => Action::Reset,
            "halfopen" => Action::HalfOpen,
            "corrupt" => Action::Corrupt,
            "truncate" => Action::Truncate,
            "delay" => Action::Delay(Duration::from_millis(ms)),
            "throttle" => Action::Throttle(rate.max(1)),
            "http" => Action::Http(u16::try_from(status).map_err(|_| no())?, u32::try_from(retry).map_err(|_| no())?),
            _ => return Err(no()),
        };
        if action == "truncate" {
            fault.way = Way::Down;
        }
        Ok(seed.map_or(fault, |seed| fault.placed(seed, within)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_faults() {
        let cut = Fault { action: Action::Cut, after: 1000, way: Way::Down, times: 1, skip: 2 };
        assert_eq!("cut after=1000 way=down skip=2".parse(), Ok(cut));
        assert_eq!("http status=429 retry=1 times=0".parse::<Fault>().map(|fault| fault.times), Ok(u64::MAX));
        assert_eq!("truncate after=9".parse::<Fault>().map(|fault| fault.way), Ok(Way::Down));
        let placed: Fault = "reset seed=7 within=5000".parse().unwrap();
        assert_eq!(Ok(placed), "reset seed=7 within=5000".parse());
        assert!(placed.after < 5000);
        for nonsense in ["", "explode", "cut after", "cut after=x", "cut way=sideways", "http status=99999"] {
            assert!(nonsense.parse::<Fault>().is_err(), "{nonsense}");
        }
    }
}
