"""The T-SQL the fixture knows, one statement and its rows after the other, through one client."""
import sys

from clients import Pytds, open_client, port_of

port = port_of()
client, other = open_client(Pytds, port), open_client(Pytds, port)
if client is None:
    sys.exit(0)
problems = []


def says(sql, *want, who=None):
    try:
        got = [tuple(row) for row in (who or client).run(sql)]
    except Exception as error:  # the client's own class
        problems.append(f"{sql[:110]}: {type(error).__name__} {str(error)[:200]}")
        return
    if [tuple(str(cell) for cell in row) for row in got] != [tuple(str(cell) for cell in row) for row in want]:
        problems.append(f"{sql[:110]}: {got} instead of {list(want)}")


def fails(sql, part):
    try:
        client.run(sql)
    except Exception as error:
        if part not in str(error):
            problems.append(f"{sql[:110]}: {error} instead of {part}")
    else:
        problems.append(f"{sql[:110]}: went well instead of {part}")


# Values and functions.
says("SELECT 7 / 2, 7.0 / 2, 1 + 2 * 3, 'a' + N'b', 10 % 3", (3, "3.5", 7, "ab", 1))
says("SELECT CAST(1.005 AS decimal(10,2)), CAST('12' AS int) + 1, CONVERT(varchar(10), 123)", ("1.01", 13, "123"))
says("SELECT ISNULL(NULL, 5), COALESCE(NULL, NULL, 'x'), NULLIF(1, 1), LEN('abc  '), DATALENGTH(N'ab')", (5, "x", None, 3, 4))
says("SELECT SUBSTRING('hello', 2, 3), REPLACE('aXb', 'x', '-'), CHARINDEX('l', 'hello'), UPPER('q'), QUOTENAME('a]b')", ("ell", "aXb", 3, "Q", "[a]]b]"))
says("SELECT CASE WHEN 'ABC' = 'abc  ' THEN 1 ELSE 0 END, CASE WHEN 'a' = 'A' COLLATE Latin1_General_BIN2 THEN 1 ELSE 0 END", (1, 0))
says("SELECT CASE 3 WHEN 3 THEN 'three' END, IIF(1 > 2, 'y', 'n'), CASE WHEN N'a%b' LIKE N'a[%]b' THEN 1 ELSE 0 END", ("three", "n", 1))
says("SELECT DATEADD(month, 1, CAST('2024-01-31' AS date)), DATEDIFF(day, '2024-01-01', '2024-03-01'), YEAR('2024-05-06')", ("2024-02-29", 60, 2024))
says("SELECT DB_NAME(), SCHEMA_NAME(), OBJECT_ID('nothing'), @@TRANCOUNT, CAST(SERVERPROPERTY('EngineEdition') AS int)", ("fixture", "dbo", None, 0, 3))
says("SELECT TRY_CAST('x' AS int), TRY_CONVERT(date, '2024-02-30')", (None, None))
says("SELECT CAST(CAST(1.5 AS decimal(5,2)) AS sql_variant), SQL_VARIANT_PROPERTY(CAST(N'x' AS sql_variant), 'BaseType')", ("1.5", "nvarchar"))
fails("SELECT 1 / 0", "Divide by zero")
fails("SELECT CAST('x' AS int)", "Conversion failed")
fails("SELECT CAST(99999999999 AS int)", "Arithmetic overflow")

# Tables: identity, computed, default, row version, sparse, checks.
says("CREATE TABLE t (id int IDENTITY(10, 5) PRIMARY KEY, a int NOT NULL, twice AS (a * 2), d datetime2(3) DEFAULT '2024-01-01', s varchar(9) SPARSE NULL, v rowversion, CONSTRAINT positive CHECK (a > 0))")
says("INSERT INTO t (a) VALUES (1), (2), (3)")
says("SELECT id, a, twice, s FROM t ORDER BY id DESC", (20, 3, 6, None), (15, 2, 4, None), (10, 1, 2, None))
says("SELECT SCOPE_IDENTITY()", (20,))
fails("INSERT INTO t (a) VALUES (-1)", "CHECK constraint")
fails("INSERT INTO t (id, a) VALUES (1, 1)", "IDENTITY_INSERT")
fails("INSERT INTO t (twice, a) VALUES (1, 1)", "computed column")
says("SET IDENTITY_INSERT t ON; INSERT INTO t (id, a) VALUES (99, 9); SET IDENTITY_INSERT t OFF")
says("SELECT c.name, c.is_identity, c.is_computed, c.is_sparse, TYPE_NAME(c.user_type_id) FROM sys.columns c WHERE c.object_id = OBJECT_ID('dbo.t') ORDER BY c.column_id",
     ("id", True, False, False, "int"), ("a", False, False, False, "int"), ("twice", False, True, False, "int"), ("d", False, False, False, "datetime2"), ("s", False, False, True, "varchar"), ("v", False, False, False, "timestamp"))
says("SELECT COUNT(*), COUNT_BIG(*), SUM(a), MIN(a), MAX(a), AVG(a) FROM t", (4, 4, 15, 1, 9, 3))
says("SELECT a % 2 AS odd, COUNT(*) FROM t GROUP BY a % 2 HAVING COUNT(*) > 1 ORDER BY odd", (1, 3))
says("SELECT TOP (2) a FROM t ORDER BY a DESC", (9,), (3,))
says("SELECT a FROM t ORDER BY a OFFSET 1 ROWS FETCH NEXT 2 ROWS ONLY", (2,), (3,))
says("SELECT [a] FROM [dbo].[t] AS x WHERE x.a IN (1, 9) AND EXISTS (SELECT 1 FROM t y WHERE y.a = x.a) ORDER BY a", (1,), (9,))
says("WITH c AS (SELECT a FROM t WHERE a < 3) SELECT c.a, t.id FROM c LEFT JOIN t ON t.a = c.a ORDER BY 1", (1, 10), (2, 15))
says("SELECT a FROM t WHERE a > 3 UNION ALL SELECT 0 ORDER BY a", (0,), (9,))
says("SELECT ROW_NUMBER() OVER (ORDER BY a DESC) AS n, a FROM t ORDER BY n", (1, 9), (2, 3), (3, 2), (4, 1))
says("UPDATE t SET a = a + 1 OUTPUT deleted.a, inserted.a WHERE a = 9", (9, 10))
says("DELETE FROM t OUTPUT deleted.id WHERE a = 10", (99,))
says("SELECT COUNT(*) FROM sys.indexes WHERE object_id = OBJECT_ID('t') AND is_primary_key = 1 AND name LIKE 'PK[_]%'", (1,))
says("SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 't' AND COLUMN_NAME = 'a'", ("t", "a", "int", "NO"))
says("SELECT SUM(p.rows) FROM sys.partitions p WHERE p.object_id = OBJECT_ID('t') AND p.index_id IN (0, 1)", (3,))

# MERGE, UPDATE FROM, INSERT from a query.
says("CREATE TABLE target (id int NOT NULL PRIMARY KEY, name nvarchar(20) NULL); CREATE TABLE source (id int NOT NULL, name nvarchar(20) NULL)")
says("INSERT INTO target VALUES (1, N'a'), (2, N'b'), (3, N'c'); INSERT INTO source VALUES (2, N'B2'), (4, N'new')")
says("MERGE INTO target AS x USING source AS y ON x.id = y.id WHEN MATCHED THEN UPDATE SET name = y.name WHEN NOT MATCHED THEN INSERT (id, name) VALUES (y.id, y.name) WHEN NOT MATCHED BY SOURCE AND x.id = 3 THEN DELETE;")
says("SELECT * FROM target ORDER BY id", (1, "a"), (2, "B2"), (4, "new"))
says("UPDATE x SET name = y.name + N'!' FROM target AS x INNER JOIN source AS y ON x.id = y.id")
says("DELETE x FROM target x JOIN source y ON y.id = x.id WHERE y.id = 4")
says("INSERT INTO target (id, name) SELECT id + 10, name FROM source WHERE NOT EXISTS (SELECT 1 FROM target z WHERE z.id = source.id + 10)")
says("SELECT * FROM target ORDER BY id", (1, "a"), (2, "B2!"), (12, "B2"), (14, "new"))
says("SELECT * INTO copied FROM target; SELECT COUNT(*) FROM copied", (4,))
says("SELECT id INTO #mine FROM target; DELETE FROM #mine WHERE id > 2; SELECT COUNT(*) FROM #mine; DROP TABLE #mine", (2,))

# Definitions.
says("ALTER TABLE target ADD extra int NULL, more varchar(5) NOT NULL DEFAULT 'x'")
says("SELECT id, extra, more FROM target WHERE id = 1", (1, None, "x"))
says("EXEC sp_rename 'target', 'renamed'")
says("EXEC sp_rename 'renamed.extra', 'other', 'COLUMN'")
says("SELECT other FROM renamed WHERE id = 1", (None,))
says("CREATE VIEW looked AS SELECT id, name FROM renamed WHERE id < 10")
says("SELECT * FROM looked ORDER BY id", (1, "a"), (2, "B2!"))
says("DROP TABLE IF EXISTS not_there; IF OBJECT_ID('source') IS NOT NULL DROP TABLE source")
says("CREATE SCHEMA s")
says("CREATE TABLE s.[odd ]]name] ([a b] int NULL); INSERT INTO s.[odd ]]name] VALUES (1); SELECT [a b] FROM s.[odd ]]name]", (1,))
says("IF NOT EXISTS (SELECT 1 FROM sys.schemas WHERE name = 's') SELECT 'no' ELSE SELECT 'yes'", ("yes",))
says("SELECT name, system_type_name, is_nullable FROM sys.dm_exec_describe_first_result_set(N'SELECT id, name FROM looked', NULL, 0)", ("id", "int", False), ("name", "nvarchar(20)", True))

# Constraints: NULL is equal to NULL in a unique index, which may have a filter; a constraint's number is not an index's;
# checks come, go and sleep; a key may point to its own table, and is looked at when the statement is done.
says("CREATE TABLE k (id int NOT NULL CONSTRAINT pk PRIMARY KEY, u nvarchar(9) NULL CONSTRAINT uq UNIQUE, f int NULL, live bit NULL, up int NULL, CONSTRAINT fk FOREIGN KEY (up) REFERENCES k (id))")
says("CREATE UNIQUE INDEX ix ON k (f, u) INCLUDE (up) WHERE live = 1")
says("INSERT INTO k (id, u, f, live) VALUES (1, N'a', 1, 1), (2, NULL, NULL, 0)")
for sql, number, name in [
    ("INSERT INTO k (id, u) VALUES (1, N'b')", 2627, "'pk'"),
    ("INSERT INTO k (id, u) VALUES (3, N'A')", 2627, "'uq'"),
    ("INSERT INTO k (id, u) VALUES (3, NULL)", 2627, "'uq'"),
    ("UPDATE k SET u = NULL WHERE id = 1", 2627, "'uq'"),
]:
    says(f"BEGIN TRY {sql} END TRY BEGIN CATCH SELECT ERROR_NUMBER(), CASE WHEN ERROR_MESSAGE() LIKE N'%{name.replace(chr(39), chr(39) * 2)}%' THEN 1 ELSE 0 END END CATCH", (number, 1))
says("ALTER TABLE k DROP CONSTRAINT uq")
says("INSERT INTO k (id, f, u, live) VALUES (3, NULL, N'x', 1), (4, NULL, N'x', 0), (5, NULL, N'x', NULL), (6, NULL, N'y', 1), (7, NULL, NULL, 1)")
says("BEGIN TRY INSERT INTO k (id, f, u, live) VALUES (8, NULL, N'X', 1) END TRY BEGIN CATCH SELECT ERROR_NUMBER() END CATCH", (2601,))
says("BEGIN TRY INSERT INTO k (id, f, u, live) VALUES (8, NULL, NULL, 1) END TRY BEGIN CATCH SELECT ERROR_NUMBER() END CATCH", (2601,))
says("SELECT name, is_unique, has_filter, filter_definition FROM sys.indexes WHERE object_id = OBJECT_ID('k') ORDER BY name", ("ix", True, True, "([live] = 1)"), ("pk", True, False, None))
says("INSERT INTO k (id, up) SELECT id + 10, 23 - id FROM k WHERE id IN (6, 7)")
says("SELECT id, up FROM k WHERE id > 10 ORDER BY id", (16, 17), (17, 16))
says("DELETE FROM k WHERE id > 10; SELECT @@ROWCOUNT", (2,))
fails("ALTER TABLE k ADD CONSTRAINT low CHECK (id < 7)", "conflicted with the CHECK constraint")
says("ALTER TABLE k ADD CONSTRAINT low CHECK (ID < 9 OR \"live\" = 1)")
says("SELECT definition, is_disabled FROM sys.check_constraints WHERE parent_object_id = OBJECT_ID('k')", ("(([id] < 9 OR [live] = 1))", False))
fails("INSERT INTO k (id, live) VALUES (9, 0)", "conflicted with the CHECK constraint")
says("ALTER TABLE k NOCHECK CONSTRAINT low; INSERT INTO k (id, live) VALUES (9, 0); SELECT is_disabled FROM sys.check_constraints WHERE name = 'low'", (True,))
says("ALTER TABLE k CHECK CONSTRAINT low")
fails("UPDATE k SET id = 10 WHERE id = 9", "conflicted with the CHECK constraint")
fails("ALTER TABLE k NOCHECK CONSTRAINT fk", "does not know")
says("ALTER TABLE k DROP CONSTRAINT low; UPDATE k SET id = 10 WHERE id = 9; DROP TABLE k")

# Transactions, snapshots, locks, errors caught.
says("SET XACT_ABORT ON; BEGIN TRY BEGIN TRAN; INSERT INTO renamed (id) VALUES (1); COMMIT; END TRY BEGIN CATCH IF @@TRANCOUNT > 0 ROLLBACK; SELECT ERROR_NUMBER(); END CATCH", (2627,))
says("SET XACT_ABORT OFF; SET TRANSACTION ISOLATION LEVEL SNAPSHOT; BEGIN TRAN; SELECT COUNT(*) FROM renamed", (4,))
says("INSERT INTO renamed (id) VALUES (77)", who=other)
says("SELECT COUNT(*) FROM renamed", (4,))
says("COMMIT; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT COUNT(*) FROM renamed", (5,))
says("DECLARE @r int; EXEC @r = sp_getapplock @Resource = 'x', @LockMode = 'Exclusive', @LockOwner = 'Session'; SELECT @r", (0,))
says("DECLARE @r int; EXEC @r = sp_getapplock @Resource = 'x', @LockMode = 'Exclusive', @LockOwner = 'Session', @LockTimeout = 0; SELECT @r", (-1,), who=other)
says("EXEC sp_releaseapplock @Resource = 'x', @LockOwner = 'Session'")
says("BEGIN TRAN; UPDATE renamed SET name = N'held' WHERE id = 1")
try:
    other.run("SET LOCK_TIMEOUT 50; UPDATE renamed SET name = N'no' WHERE id = 2")
    problems.append("a lock time limit did not end a wait")
except Exception as error:
    if "Lock request time out" not in str(error):
        problems.append(str(error))
says("ROLLBACK")

# Variables, loops, procedures, table types.
says("DECLARE @i int = 0, @s nvarchar(50) = N''; WHILE @i < 3 BEGIN SET @s = @s + CONVERT(nvarchar(5), @i); SET @i += 1 END; SELECT @s", ("012",))
says("DECLARE @x TABLE (a int); INSERT INTO @x VALUES (1), (2); SELECT SUM(a) FROM @x", (3,))
says("CREATE TYPE dbo.ids AS TABLE (id int NOT NULL)")
says("CREATE PROCEDURE take @rows dbo.ids READONLY, @by int = 1 AS SELECT COUNT(*) * @by FROM @rows")
says("CREATE PROCEDURE shows @n int AS BEGIN SET NOCOUNT ON; SELECT id, name FROM renamed WHERE id = @n END")
says("SELECT name, system_type_name FROM sys.dm_exec_describe_first_result_set(N'EXEC dbo.shows @n = 1', NULL, 0)", ("id", "int"), ("name", "nvarchar(20)"))
says("DECLARE @r dbo.ids; INSERT INTO @r VALUES (1), (2); EXEC take @rows = @r, @by = 10", (20,))
says("EXEC sp_executesql N'SELECT @a + @b', N'@a int, @b int', @a = 1, @b = 2", (3,))
says("DECLARE @out int; EXEC sp_executesql N'SET @o = 5', N'@o int OUTPUT', @o = @out OUTPUT; SELECT @out", (5,))
fails("EXEC take @nothing = 1", "is not a parameter")
fails("THROW 50001, 'own error', 1", "own error")
fails("RAISERROR('told %s', 16, 1, 'you')", "told you")
fails("SELECT * FROM elsewhere.dbo.x", "another database")
fails("CREATE FUNCTION f() RETURNS int AS BEGIN RETURN 1 END", "Incorrect syntax")

for problem in problems:
    print("PROBLEM:", problem)
print(f"{len(problems)} problems")
sys.exit(1 if problems else 0)
