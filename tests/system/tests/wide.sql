-- Every scalar type of PostgreSQL 15, arrays, domains, enums, ranges, with the values that break copies elsewhere.
CREATE TYPE mood AS ENUM ('sad', 'so, so', 'happy "very"');
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(12,4);
CREATE DOMAIN label AS text;
CREATE TYPE pair AS (x integer, y text);
CREATE TABLE wide (
  id integer,
  a_bool boolean, a_int2 smallint, a_int4 integer, a_int8 bigint, a_oid oid,
  a_float4 real, a_float8 double precision,
  a_num_9_2 numeric(9,2), a_num_38_10 numeric(38,10), a_num_50_20 numeric(50,20), a_num_neg numeric(5,-2), a_num numeric,
  a_money money,
  a_text text, a_varchar varchar(20), a_char char(8), a_qchar "char", a_name name, a_bytea bytea,
  a_date date, a_time time, a_time3 time(3), a_timetz timetz, a_timestamp timestamp, a_timestamptz timestamptz,
  a_interval interval,
  a_uuid uuid, a_json json, a_jsonb jsonb, a_jsonpath jsonpath, a_xml xml,
  a_inet inet, a_cidr cidr, a_macaddr macaddr, a_macaddr8 macaddr8,
  a_bit bit(5), a_varbit bit varying,
  a_point point, a_line line, a_lseg lseg, a_box box, a_path path, a_polygon polygon, a_circle circle,
  a_tsvector tsvector, a_tsquery tsquery,
  a_int4range int4range, a_int8range int8range, a_numrange numrange, a_tsrange tsrange, a_tstzrange tstzrange,
  a_daterange daterange, a_int4multirange int4multirange,
  a_ints integer[], a_texts text[], a_grid integer[][], a_nums numeric[], a_moods mood[],
  a_mood mood, a_positive positive, a_price price, a_label label, a_pair pair,
  a_regclass regclass, a_lsn pg_lsn, a_snapshot pg_snapshot, a_tid tid, a_xid xid
);
-- Nothing at all.
INSERT INTO wide (id) VALUES (1);
-- Something ordinary everywhere.
INSERT INTO wide VALUES (
  2, true, 1, 2, 3, 4, 1.5, 2.5, 3.25, 4.0000000001, 5.00000000000000000001, 12300, 6.10, 7.89,
  'text', 'varchar', 'char', 'c', 'name', '\x00ff10',
  '2024-02-29', '12:34:56.789012', '01:02:03.004', '12:34:56+05:30', '2024-02-29 12:34:56.789012',
  '2024-03-31 02:30:00+01', '1 year 2 months 3 days 04:05:06.789',
  '00112233-4455-6677-8899-aabbccddeeff', '{"b": 1,  "a": [1, 2]}', '{"b": 1, "a": [1, 2]}', '$.a[*] ? (@ > 1)',
  '<a b="c">d</a>',
  '192.168.1.5/24', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101', B'1',
  '(1,2)', '{1,2,3}', '[(1,2),(3,4)]', '(3,4),(1,2)', '((1,2),(3,4))', '((0,0),(0,1),(1,1))', '<(1,2),3>',
  'a:1 fat:2 cat:3', 'fat & (rat | cat)',
  '[1,10)', '[1,10000000000)', '(1.5,2.5]', '[2024-01-01 00:00,2024-02-01 00:00)',
  '[2024-01-01 00:00+00,2024-02-01 00:00+00)', '[2024-01-01,2024-02-01)', '{[1,3),[5,7)}',
  '{1,2,NULL}', '{"a, b","c\"d",NULL,""}', '{{1,2},{3,4}}', '{1.10,NaN}', '{sad,"happy \"very\""}',
  'so, so', 7, 8.1234, 'labeled', '(1,"a, ""b""")', 'pg_class', '16/B374D848', '10:20:10,14,15', '(0,1)', '42'
);
-- Least and greatest.
INSERT INTO wide (id, a_bool, a_int2, a_int4, a_int8, a_oid, a_float4, a_float8, a_num_9_2, a_num_38_10, a_num_50_20, a_num, a_money,
  a_date, a_time, a_timetz, a_timestamp, a_timestamptz, a_interval, a_uuid)
VALUES
  (3, false, -32768, -2147483648, -9223372036854775808, 0, '-Infinity', '-Infinity', -9999999.99,
   -9999999999999999999999999999.9999999999, -999999999999999999999999999999.99999999999999999999, '-Infinity',
   '-92233720368547758.08',
   '-infinity', '00:00:00', '00:00:00+15:59', '-infinity', '-infinity', '-178000000 years', '00000000-0000-0000-0000-000000000000'),
  (4, true, 32767, 2147483647, 9223372036854775807, 4294967295, 'Infinity', 'Infinity', 9999999.99,
   9999999999999999999999999999.9999999999, 999999999999999999999999999999.99999999999999999999, 'Infinity',
   '92233720368547758.07',
   'infinity', '24:00:00', '24:00:00-15:59', 'infinity', 'infinity', '178000000 years', 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
  (5, true, 0, 0, 0, 1, 'NaN', 'NaN', 0.00, 0.0000000000, 0.00000000000000000000, 'NaN', 0,
   '4713-01-01 BC', '23:59:59.999999', '12:00:00.000001-00', '4713-01-01 00:00:00 BC', '4713-01-01 00:00:00+00 BC', '-1 mon +1 day -00:00:00.000001', NULL),
  (6, true, 1, -1, 1, 1, '-0', '-0', -0.01, -0.0000000001, -0.00000000000000000001, 1e100, -0.01,
   '5874897-12-31', '00:00:00.000001', '00:00:00+00', '294246-12-31 23:59:59.999999', '294246-12-31 23:59:59.999999+00', '0', NULL),
  (7, true, 1, -1, 1, 1, 1e-45, 5e-324, 1.10, 1.1000000000, 1.1, 1e-100, 1,
   '0001-01-01', '12:00', '12:00+00', '0001-01-01 00:00:00', '0001-01-01 00:00:00+00', '1 day -1 hours', NULL),
  (8, true, 1, -1, 1, 1, 3.4028235e38, 1.7976931348623157e308, 1.10, 1.1, 1.1, 1.10, 1,
   '9999-12-31', '12:00', '12:00+00', '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', 'P1Y2M3DT4H5M6.7S', NULL),
  (9, true, 1, -1, 1, 1, 0.1, 0.1, 1.10, 1.1, 1.1, 1.1000, 1,
   '0044-03-15 BC', '12:00', '12:00+00', '0044-03-15 12:00:00.5 BC', '0044-03-15 12:00:00.5+00 BC', '1 microsecond', NULL),
  (10, true, 1, -1, 1, 1, 16777217, 9007199254740993, 1.10, 1.1, 1.1, 0, 1,
   '1969-12-31', '12:00', '12:00+00', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999-14', '1 second', NULL);
-- Text that looks like something else.
INSERT INTO wide (id, a_text, a_varchar, a_char, a_qchar, a_name, a_bytea, a_json, a_jsonb, a_label, a_texts) VALUES
  (20, '', '', '', '', '', '', '""', '""', '', '{}'),
  (21, E'\n', E'\r\n', E'a\tb', E'\n', E'n\nn', E'\\x0a', E'"\\n"', E'"\\n"', E'a\r', E'{"\n"}'),
  (22, '"', '""', '"quoted"', '"', '"', '\x22', '"\""', '"\""', '"a","b"', '{"\""}'),
  (23, ',', ';', '|', ',', 'a,b', '\x2c', '[1,2]', '[1,2]', 'a,b;c|d', '{","}'),
  (24, '\N', 'NULL', 'null', '\', '\N', '\x5c4e', 'null', 'null', '\', '{"NULL","\\N"}'),
  (25, U&'\+01F600 and \+01F469\200D\+01F680', U&'\00E9\0065\0301', U&'\4E2D\6587', 'x', U&'\+01F600', '\xf09f9880', '"\ud83d\ude00"', '"\ud83d\ude00"', U&'\FEFFmark', '{😀}'),
  (26, ' leading and trailing ', '  ', '  x  ', ' ', ' n ', '\x20', ' {} ', ' {} ', E'\t', '{" "}'),
  (27, repeat('long ', 20000), 'x', 'x', 'x', 'x', decode(repeat('00ff', 50000), 'hex'), '1e400', '1e400', repeat('"', 1000), '{x}'),
  (28, E'\u0001\u001f\u007f\u0085\u2028', E'\u00a0', 'x', 'x', 'x', '\x00', '1.10', '1.10', 'true', '{true}');
-- Two rows of the same content: a set would lose one.
INSERT INTO wide (id, a_text) VALUES (30, 'twice'), (30, 'twice');
