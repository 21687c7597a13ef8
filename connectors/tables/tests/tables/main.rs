//! Tests of the table stores against real servers and files. One binary, so that it links once.

mod checkpoints;
mod mysql_bad_input;
mod mysql_postgres;
mod mysql_procedure;
mod mysql_read;
mod mysql_support;
mod mysql_write;
mod postgres_bad_input;
mod postgres_errors;
mod postgres_modes;
mod postgres_read;
mod postgres_routines;
mod postgres_shapes;
mod postgres_tls;
mod postgres_write;
mod sql_server_bad_input;
mod sql_server_conduct;
mod sql_server_copy;
mod sql_server_routines;
mod sql_server_support;
mod sql_server_windows;
mod sql_server_wire;
mod sqlite_read;
mod sqlite_write;
mod support;
mod waits;
