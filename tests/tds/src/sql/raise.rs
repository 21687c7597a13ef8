//! Errors on purpose: RAISERROR, THROW, and TRY with its CATCH.

use super::emit::Emit;
use super::run::{Done, Flow, TRY_BIT};
use super::tree::*;
use crate::errors::{Failure, SqlError};
use crate::out::Out;
use crate::session::Session;
use crate::value::Value;

impl Session {
    pub(super) fn run_try(&mut self, body: &[Statement], handler: &[Statement], out: &mut Out) -> Done<Flow> {
        let outer = self.seed & TRY_BIT;
        self.seed |= TRY_BIT;
        let result = self.run_all(body, out);
        self.seed = self.seed & !TRY_BIT | outer;
        match result {
            Err(Failure::Sql(error)) => {
                if error.ends_transaction() {
                    self.roll_back_told(out);
                } else if self.abort_on_error && self.transactions > 0 {
                    self.doomed = true;
                }
                let before = self.caught.replace(error);
                let flow = self.run_all(handler, out);
                self.caught = before;
                flow
            }
            other => other,
        }
    }

    pub(super) fn raise(&mut self, arguments: &[Expr], out: &mut Out) -> Done<()> {
        let mut values = Vec::new();
        for argument in arguments {
            values.push(Emit::constant(self, argument)?.1);
        }
        let mut text = values.first().map(Value::to_text).unwrap_or_default();
        for value in values.iter().skip(3) {
            for mark in ["%s", "%d", "%i"] {
                if let Some(at) = text.find(mark) {
                    text.replace_range(at..at + 2, &value.to_text());
                    break;
                }
            }
        }
        let class = values.get(1).and_then(Value::to_integer).unwrap_or(16).clamp(0, 25) as u8;
        let state = values.get(2).and_then(Value::to_integer).unwrap_or(1).clamp(0, 255) as u8;
        let error = SqlError { class, state, ..SqlError::new(50_000, text) };
        if class <= 10 {
            out.info(&error);
            return Ok(());
        }
        Err(error.into())
    }

    pub(super) fn thrown(&mut self, parts: Option<&(Expr, Expr, Expr)>) -> Done<SqlError> {
        let Some((number, text, state)) = parts else {
            return self.caught.clone().ok_or_else(|| {
                SqlError::new(10_704, "To rethrow an error, a THROW statement must be used inside a CATCH block.")
                    .into()
            });
        };
        let number = Emit::constant(self, number)?.1.to_integer().unwrap_or(50_000) as i32;
        let text = Emit::constant(self, text)?.1.to_text();
        let state = Emit::constant(self, state)?.1.to_integer().unwrap_or(1) as u8;
        // THROW ends the batch; class 16 alone would not.
        Ok(SqlError { state, ..SqlError::new(number, text) })
    }
}
