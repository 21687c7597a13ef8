#!/bin/sh
# Stands before the compiler for the crates of this workspace alone: `cargo xtask fuzz --coverage` counts their lines.
exec "$@" -Cinstrument-coverage
