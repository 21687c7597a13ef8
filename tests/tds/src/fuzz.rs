//! A door for the fuzzer: bytes as what a client sends, through each of the server's parsers. No session is needed and
//! nothing is run.

use crate::bulk::{gather, read_columns};
use crate::login::{read_login, read_options};
use crate::read::{Packets, Reader, WireError};
use crate::rpc;
use crate::sql::parse::batch;
use crate::types::{MAX, Type, WireType, write_type};
use crate::wire_value::{read_scalar, read_value, read_variant, scalar_bytes, write_value, write_variant};

/// Words that a byte stands for where a statement is put together from words.
const WORDS: &str = "SELECT * FROM t id name ( ) , = 1 2.5 N'x' 0xFF NULL WHERE AND OR NOT INSERT INTO VALUES UPDATE SET \
    DELETE MERGE USING ON WHEN MATCHED THEN CASE END CAST CONVERT TRY_CAST AS int nvarchar(10) decimal(10,2) BEGIN TRAN \
    COMMIT ROLLBACK IF ELSE DECLARE @a TOP ORDER BY GROUP HAVING COUNT(*) + - / EXISTS IN UNION ALL WITH JOIN LEFT INNER \
    CROSS APPLY [ ] ' -- ; BETWEEN LIKE ESCAPE IS OVER PARTITION ROWS OFFSET FETCH NEXT ONLY CREATE TABLE PRIMARY KEY \
    CLUSTERED IDENTITY DEFAULT CHECK UNIQUE FOREIGN REFERENCES INDEX INCLUDE VIEW PROCEDURE TRIGGER TYPE SCHEMA ALTER ADD \
    COLUMN DROP CONSTRAINT SWITCH TO TRUNCATE EXEC @p OUTPUT RETURN WHILE BREAK CONTINUE PRINT THROW RAISERROR TRY CATCH \
    WAITFOR DELAY '0:0:0' DATEADD DATEDIFF day GETDATE() COLLATE Latin1_General_BIN2 BULK TABLOCK HOLDLOCK SAVE USE KILL \
    DISTINCT PERCENT TIES ASC DESC max varchar table READONLY sys.objects OBJECT_ID PERSISTED SPARSE ROW REBUILD GRANT TO \
    public OPTION RESULT SETS NOCHECK ENABLE DISABLE #t @@ROWCOUNT % < > <> . : GO EXCEPT INTERSECT SOURCE TARGET BY";

/// Content that comes in packets of a few bytes.
struct Pieces(Vec<u8>, usize);

impl Packets for Pieces {
    fn next(&mut self, onto: &mut Vec<u8>) -> Result<bool, WireError> {
        let piece = self.0.len().min(self.1);
        onto.extend(self.0.drain(..piece));
        Ok(self.0.is_empty())
    }
}

/// The first byte chooses the parser.
pub fn message(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else { return };
    let mut reader = Reader::new(Box::new(Pieces(content.to_vec(), 7)), Vec::new(), content.is_empty());
    // What comes back is of no interest, only that it does.
    match choice % 9 {
        0 => drop(read_options(content)),
        1 => drop(read_login(content.to_vec())),
        2 => drop(rpc::read(&mut reader)),
        3 => bulk(&mut reader),
        4 => drop(batch(&String::from_utf8_lossy(content))),
        5 => {
            let words: Vec<&str> = WORDS.split_whitespace().collect();
            let text: Vec<&str> = content.iter().map(|byte| words[usize::from(*byte) % words.len()]).collect();
            drop(batch(&text.join(" ")));
        }
        6 => {
            if let Ok((ty, value, collation)) = read_variant(content)
                && let Some(bytes) = write_variant(&ty, &value, collation)
            {
                let again = read_variant(&bytes).map(|(_, value, _)| value);
                assert!(settled(&ty) || again.is_ok_and(|again| again == value), "a variant is written as it was read");
            }
        }
        7 => values(&mut reader),
        _ => {
            let _ = reader.rest();
            let _ = reader.skip_rest();
        }
    }
}

/// Rows of a bulk load, gathered to their end.
fn bulk(from: &mut Reader) {
    if let Ok(wires) = read_columns(from) {
        while let Ok((_, false)) = gather(from, &wires) {}
    }
}

/// A type and values of it, each written again.
fn values(from: &mut Reader) {
    let Ok(wire) = WireType::read(from) else { return };
    if wire.token == 0x1F {
        return;
    }
    while let Ok(value) = read_value(from, &wire, true) {
        let mut out = Vec::new();
        write_type(&mut out, &wire.ty, true, wire.collation);
        let Ok(written) = WireType::read(&mut Reader::of(out)) else { continue };
        let mut out = Vec::new();
        write_value(&mut out, &wire.ty, true, wire.collation, &value);
        let again = read_value(&mut Reader::of(out), &written, true);
        assert!(settled(&wire.ty) || again.is_ok_and(|again| again == value), "a value is written as it was read");
        let bytes = scalar_bytes(&wire.ty, &value, wire.collation);
        let _ = read_scalar(&bytes, &wire.ty, wire.collation);
    }
}

/// Types whose values a server may hold in another form than they came in.
fn settled(ty: &Type) -> bool {
    !matches!(ty, Type::Bit | Type::TinyInt | Type::SmallInt | Type::Int | Type::BigInt | Type::Guid)
        && !matches!(ty, Type::VarBinary(size) if *size == MAX)
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Statements of every sort, log-ins, calls, rows and values.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        STATEMENTS.iter().map(|statement| [&[4][..], statement.as_bytes()].concat()).collect();
    seeds.push([&[5][..], &[0, 1, 2, 3, 15, 4, 9, 10]].concat());
    seeds.push(vec![0, 0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xFF, 16, 0, 3, 232, 0, 0, 2]);
    let mut login = vec![0; 94];
    login[..12].copy_from_slice(&[110, 0, 0, 0, 4, 0, 0, 0x74, 0, 16, 0, 0]);
    (login[27], login[56], login[58]) = (0x10, 94, 4);
    for at in [36, 40, 44, 48, 68] {
        (login[at], login[at + 2]) = (102, 2);
    }
    login.extend([98, 0, 0, 0, 2, 3, 0, 0, 0, 1, 2, 3, 0xFF]);
    seeds.push([&[1][..], &login].concat());
    let headers = [22, 0, 0, 0, 18, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let mut call = [&[2][..], &headers, &[0xFF, 0xFF, 10, 0, 0, 0]].concat();
    call.extend([0, 0, 0xE7, 40, 0, 9, 4, 208, 0, 52, 16, 0]);
    call.extend(utf16("SELECT 1"));
    call.extend([2, 64, 0, 97, 0, 1, 0x26, 4, 4, 7, 0, 0, 0]);
    seeds.push(call.clone());
    let mut named = [&[2][..], &headers, &[5, 0]].concat();
    named.extend(utf16("dbo.p"));
    named.extend([0, 0, 0, 0, 0xF3, 0, 0, 1]);
    named.extend(utf16("t"));
    named.extend([1, 0, 0, 0, 0, 0, 0, 0, 0x26, 4, 0, 0, 1, 4, 7, 0, 0, 0, 1, 0, 0, 0x80]);
    named.extend(&call[23..]);
    seeds.push(named);
    let types: &[(&[u8], &[u8])] = &[
        (&[0x26, 1], &[1, 7]),
        (&[0x26, 2], &[2, 7, 0]),
        (&[0x26, 4], &[4, 7, 0, 0, 0]),
        (&[0x26, 8], &[8, 1, 2, 3, 4, 5, 6, 7, 8]),
        (&[0x68, 1], &[1, 1]),
        (&[0x30], &[1]),
        (&[0x32], &[1]),
        (&[0x34], &[1, 0]),
        (&[0x38], &[1, 0, 0, 0]),
        (&[0x7F], &[1, 0, 0, 0, 0, 0, 0, 0]),
        (&[0x3A], &[1, 0, 59, 0]),
        (&[0x3B], &[0, 0, 192, 63]),
        (&[0x3C], &[0, 0, 0, 0, 16, 39, 0, 0]),
        (&[0x3D], &[1, 0, 0, 0, 44, 1, 0, 0]),
        (&[0x3E], &[0, 0, 0, 0, 0, 0, 248, 63]),
        (&[0x7A], &[16, 39, 0, 0]),
        (&[0x6D, 4], &[4, 0, 0, 192, 63]),
        (&[0x6D, 8], &[8, 0, 0, 0, 0, 0, 0, 248, 63]),
        (&[0x6E, 4], &[4, 16, 39, 0, 0]),
        (&[0x6E, 8], &[8, 0, 0, 0, 0, 16, 39, 0, 0]),
        (&[0x6F, 4], &[4, 1, 0, 59, 0]),
        (&[0x6F, 8], &[8, 1, 0, 0, 0, 44, 1, 0, 0]),
        (&[0x6C, 9, 19, 4], &[9, 1, 57, 48, 0, 0, 0, 0, 0, 0]),
        (&[0x6A, 5, 9, 2], &[5, 0, 1, 0, 0, 0]),
        (&[0x24, 16], &[16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
        (&[0x28], &[3, 0, 0, 10]),
        (&[0x29, 6], &[5, 1, 2, 3, 4, 0]),
        (&[0x2A, 3], &[7, 1, 2, 3, 4, 0, 0, 10]),
        (&[0x2B, 0], &[8, 1, 2, 0, 0, 0, 10, 60, 0]),
        (&[0x25, 10], &[2, 0, 255]),
        (&[0x2D, 2], &[2, 0, 255]),
        (&[0x27, 10], &[2, 97, 98]),
        (&[0x2F, 2], &[2, 97, 98]),
        (&[0xE7, 40, 0, 9, 4, 208, 0, 52], &[4, 0, 97, 0, 228, 0]),
        (&[0xEF, 4, 0, 9, 4, 208, 0, 52], &[4, 0, 97, 0, 228, 0]),
        (&[0xA7, 40, 0, 9, 4, 208, 0, 52], &[2, 0, 97, 228]),
        (&[0xAF, 2, 0, 9, 4, 208, 0, 52], &[2, 0, 97, 228]),
        (&[0xE7, 255, 255, 9, 4, 208, 0, 52], &[4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 97, 0, 98, 0, 0, 0, 0, 0]),
        (&[0xF1, 0], &[254, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 60, 0, 0, 0, 0, 0]),
        (&[0xA5, 10, 0], &[3, 0, 0, 1, 255]),
        (&[0xA5, 255, 255], &[255, 255, 255, 255, 255, 255, 255, 255]),
        (&[0xAD, 2, 0], &[2, 0, 1, 255]),
        (&[0x22, 255, 255, 255, 127], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 2]),
        (&[0x23, 255, 255, 255, 127, 9, 4, 208, 0, 52], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 97, 98]),
        (&[0x63, 255, 255, 255, 127, 9, 4, 208, 0, 52], &[0]),
        (&[0x62, 73, 31, 0, 0], &[6, 0, 0, 0, 0x38, 0, 7, 0, 0, 0]),
        (&[0x1F], &[]),
    ];
    for (described, value) in types {
        seeds.push([&[7][..], described, value, value].concat());
        let text = if matches!(described[0], 0x22 | 0x23 | 0x63) { &[1, 0, 116, 0][..] } else { &[] };
        let column = [&[0x81, 1, 0, 0, 0, 0, 0, 9, 0][..], described, text, &[1, 99, 0]].concat();
        seeds.push([&[3][..], &column, &[0xD1], value, &[0xD2, 1, 0xD1], value, &[0xFD, 0, 0]].concat());
        seeds.push([&[6, described[0], 0][..], value.get(1..).unwrap_or_default()].concat());
    }
    seeds.push(vec![6, 0xE7, 7, 9, 4, 208, 0, 52, 40, 0, 97, 0]);
    seeds.push(vec![6, 0xA5, 2, 8, 0, 1, 2]);
    seeds.push(vec![6, 0x6C, 2, 19, 4, 1, 57, 48, 0, 0, 0, 0, 0, 0]);
    seeds.push(vec![6, 0x2A, 1, 3, 1, 2, 3, 4, 0, 0, 10]);
    seeds.push(vec![8, 1, 2, 3]);
    seeds
}

/// One of each.
const STATEMENTS: &[&str] = &[
    "SELECT TOP (5) WITH TIES a.[id], b.*, N'it''s' AS [x], 0xFF, -1.5e3, @@ROWCOUNT c FROM dbo.t a WITH (NOLOCK, UPDLOCK) \
        LEFT OUTER JOIN [u] AS b ON a.id = b.id CROSS JOIN v INNER JOIN w ON 1 = 1 CROSS APPLY (SELECT 1 x) y \
        WHERE a.id IN (1, 2) AND NOT b.x LIKE 'a%' ESCAPE '!' OR EXISTS (SELECT 1) AND a.y IS NOT NULL \
        GROUP BY a.id HAVING COUNT(*) > 1 ORDER BY 1 DESC, 2 OFFSET 5 ROWS FETCH NEXT 10 ROWS ONLY OPTION (RECOMPILE)",
    "WITH c (a) AS (SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 4) SELECT DISTINCT a FROM c",
    "SELECT CASE WHEN a BETWEEN 1 AND 2 THEN 'x' ELSE NULL END, CASE a WHEN 1 THEN 2 END, CAST(a AS decimal(10,2)), \
        TRY_CONVERT(datetime2(3), a, 126), CONVERT(varchar(max), a) COLLATE Latin1_General_BIN2, a + b - c * d / e % f, ~a, \
        a & b | c ^ d, DATEADD(day, 1, GETDATE()), DATEDIFF(ms, a, b), DATEPART(year, CURRENT_TIMESTAMP), USER, \
        ROW_NUMBER() OVER (PARTITION BY a ORDER BY b), COUNT(DISTINCT a), NEXT VALUE FOR s",
    "INSERT INTO t (a, [b]) OUTPUT inserted.a VALUES (1, DEFAULT), (@x, NULL)",
    "INSERT t SELECT * FROM u; INSERT INTO t DEFAULT VALUES; INSERT INTO t EXEC p 1",
    "INSERT BULK t (a int, b nvarchar(20) COLLATE Latin1_General_CI_AS) WITH (TABLOCK, KEEP_NULLS, ROWS_PER_BATCH = 5)",
    "UPDATE TOP (1) a SET a.x = 1, y += 2 OUTPUT deleted.x, inserted.x INTO @t FROM t a JOIN u ON a.id = u.id WHERE 1 = 1",
    "DELETE a OUTPUT deleted.* FROM t a WHERE EXISTS (SELECT 1 FROM u WHERE u.id = a.id); DELETE FROM t; TRUNCATE TABLE t",
    "MERGE INTO t WITH (HOLDLOCK) AS a USING (VALUES (1, 2)) AS s (x, y) ON a.id = s.x WHEN MATCHED AND a.y < 1 THEN UPDATE \
        SET y = s.y WHEN NOT MATCHED BY TARGET THEN INSERT (id, y) VALUES (s.x, s.y) WHEN NOT MATCHED BY SOURCE THEN DELETE \
        OUTPUT $action, inserted.id;",
    "CREATE TABLE dbo.[t] (id int IDENTITY(1,1) NOT NULL CONSTRAINT pk PRIMARY KEY CLUSTERED, a nvarchar(max) NULL DEFAULT \
        (N'x'), b decimal(10, 2) SPARSE, c AS (b * 2) PERSISTED, d rowversion, e uniqueidentifier ROWGUIDCOL UNIQUE, \
        CHECK (b > 0), CONSTRAINT fk FOREIGN KEY (b) REFERENCES u (x) ON DELETE CASCADE, UNIQUE NONCLUSTERED (a ASC, b DESC), \
        INDEX ix (a)) ON [PRIMARY] TEXTIMAGE_ON [PRIMARY]",
    "ALTER TABLE t ADD x int NULL, y int; ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD CONSTRAINT c CHECK (a > 1); \
        ALTER TABLE t SWITCH TO u; ALTER TABLE t ALTER COLUMN x bigint NOT NULL; ALTER TABLE t NOCHECK CONSTRAINT ALL; \
        ALTER TABLE t REBUILD WITH (DATA_COMPRESSION = ROW); ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t DROP CONSTRAINT c",
    "CREATE UNIQUE NONCLUSTERED INDEX ix ON t (a, b DESC) INCLUDE (c) WHERE a IS NOT NULL WITH (ONLINE = ON); DROP INDEX ix ON t",
    "CREATE OR ALTER PROCEDURE dbo.p @a int, @b nvarchar(10) = N'x' OUTPUT, @t dbo.tt READONLY AS BEGIN SET NOCOUNT ON; \
        SELECT @a; RETURN 1 END",
    "CREATE VIEW v AS SELECT 1 a; DROP VIEW v; DROP TABLE IF EXISTS t, u; DROP PROCEDURE p",
    "CREATE TYPE dbo.tt AS TABLE (id int NOT NULL PRIMARY KEY, x nvarchar(5)); CREATE TYPE y FROM varchar(11) NOT NULL",
    "CREATE SCHEMA s AUTHORIZATION dbo",
    "CREATE TRIGGER tr ON t AFTER INSERT, UPDATE AS SELECT 1",
    "DECLARE @a int = 1, @b nvarchar(5), @t TABLE (id int, x int NULL); SET @a = 2; SET @a += 1; SET XACT_ABORT, NOCOUNT ON; \
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SET IDENTITY_INSERT t ON; SELECT @a = 1, @b = x FROM t",
    "BEGIN TRY BEGIN TRAN x; SAVE TRAN y; COMMIT; END TRY BEGIN CATCH IF @@TRANCOUNT > 0 ROLLBACK; THROW; END CATCH",
    "IF EXISTS (SELECT 1) PRINT 'x'; ELSE BEGIN WHILE 1 = 1 BEGIN BREAK; CONTINUE END END",
    "EXEC @r = dbo.p 1, @b = N'x', @c = @d OUTPUT WITH RESULT SETS NONE; EXECUTE ('SELECT 1'); EXEC sp_executesql N'x', N'@a int', 1",
    "RAISERROR (N'x %d', 16, 1, 5) WITH NOWAIT; THROW 50000, 'x', 1; WAITFOR DELAY '00:00:01'; KILL 51; USE [master]; GO",
    "-- comment\n/* and /* another */ */ SELECT \"quoted\", [a]]b], 'x', $1.5, .5, 1e5, N'ä' FROM ##t",
    "GRANT SELECT ON t TO public; REVOKE EXECUTE ON p FROM x; DENY ALL TO y; CREATE DATABASE d; UPDATE STATISTICS t",
];
