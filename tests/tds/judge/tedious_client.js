// The JavaScript client, driven by lines of JSON: {do: run|write|bulk, ...} in, {rows} or {error} out.
const { Connection, Request, TYPES } = require('tedious');
const readline = require('readline');

const port = Number(process.argv[2]);
const encrypt = { no: false, yes: true, strict: 'strict' }[process.argv[3] || 'no'];
const say = (answer) => process.stdout.write(JSON.stringify(answer) + '\n');

const connection = new Connection({
  server: 'localhost',
  authentication: { type: 'default', options: { userName: 'sa', password: 'Fixture-Password-1' } },
  options: { port, database: 'fixture', encrypt, trustServerCertificate: encrypt !== 'strict', useUTC: true, requestTimeout: 20000 },
});

const pad = (n, width) => String(n).padStart(width, '0');

// Dates as the other clients are made to say them; the last three digits come beside the JavaScript date.
function moment(value) {
  const micros = value.getUTCMilliseconds() * 1000 + Math.round((value.nanosecondsDelta || 0) * 1e6);
  const date = `${pad(value.getUTCFullYear(), 4)}-${pad(value.getUTCMonth() + 1, 2)}-${pad(value.getUTCDate(), 2)}`;
  const time = `${pad(value.getUTCHours(), 2)}:${pad(value.getUTCMinutes(), 2)}:${pad(value.getUTCSeconds(), 2)}.${pad(micros, 6)}`;
  return [date, time];
}

function plain(cell) {
  const { value, metadata } = cell;
  if (value === null || value === undefined) return null;
  const type = metadata.type.name;
  if (value instanceof Date) {
    const [date, time] = moment(value);
    if (type === 'Date') return date;
    if (type === 'Time') return time;
    return `${date}T${time}`;
  }
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (typeof value === 'boolean') return value ? '1' : '0';
  return String(value);
}

function typed(declared, text) {
  if (text === null) return null;
  const bare = declared.split('(')[0];
  if (['tinyint', 'smallint', 'int', 'real', 'float', 'decimal', 'numeric', 'money', 'smallmoney'].includes(bare)) return Number(text);
  if (bare === 'bit') return text === '1';
  if (['binary', 'varbinary', 'image'].includes(bare)) return Buffer.from(text, 'hex');
  if (bare === 'date') return new Date(`${text}T00:00:00Z`);
  if (bare === 'time' || bare.startsWith('datetime') || bare === 'smalldatetime') {
    const whole = bare === 'time' ? `1970-01-01T${text}` : text.split(' ')[0];
    const date = new Date(whole.replace(/(\.\d{3})\d*$/, '$1') + 'Z');
    const rest = /\.\d{3}(\d{3})$/.exec(whole);
    if (rest) date.nanosecondDelta = Number(rest[1]) / 1e6;
    return date;
  }
  return text;
}

const KINDS = {
  bit: TYPES.Bit, tinyint: TYPES.TinyInt, smallint: TYPES.SmallInt, int: TYPES.Int, bigint: TYPES.BigInt, real: TYPES.Real,
  float: TYPES.Float, smallmoney: TYPES.SmallMoney, money: TYPES.Money, decimal: TYPES.Decimal, numeric: TYPES.Numeric,
  date: TYPES.Date, time: TYPES.Time, smalldatetime: TYPES.SmallDateTime, datetime: TYPES.DateTime, datetime2: TYPES.DateTime2,
  datetimeoffset: TYPES.DateTimeOffset, char: TYPES.Char, varchar: TYPES.VarChar, text: TYPES.Text, nchar: TYPES.NChar,
  nvarchar: TYPES.NVarChar, ntext: TYPES.NText, binary: TYPES.Binary, varbinary: TYPES.VarBinary, image: TYPES.Image,
  uniqueidentifier: TYPES.UniqueIdentifier, xml: TYPES.NVarChar,
};

function options(declared) {
  const [bare, inner] = declared.replace(')', '').split('(');
  if (inner === 'max') return { length: Infinity };
  if (!inner) return bare === 'xml' ? { length: Infinity } : {};
  const [a, b] = inner.split(',').map(Number);
  if (bare === 'decimal' || bare === 'numeric') return { precision: a, scale: b };
  return bare.startsWith('time') || bare.startsWith('datetime') ? { scale: a } : { length: a };
}

function run(text, prepare, call) {
  return new Promise((resolve, reject) => {
    const rows = [];
    const request = new Request(text, (error) => (error ? reject(error) : resolve(rows)));
    request.on('row', (columns) => rows.push(columns.map(plain)));
    prepare(request);
    call(request);
  });
}

async function answer(question) {
  if (question.do === 'run') return run(question.text, () => {}, (request) => connection.execSqlBatch(request));
  if (question.do === 'write') {
    const marks = question.columns.map((_, at) => `@p${at}`).join(', ');
    return run(`INSERT INTO ${question.table} VALUES (${marks})`, (request) => {
      question.columns.forEach(([, declared], at) => {
        request.addParameter(`p${at}`, KINDS[declared.split('(')[0]], typed(declared, question.row[at]), options(declared));
      });
    }, (request) => connection.execSql(request));
  }
  return new Promise((resolve, reject) => {
    const load = connection.newBulkLoad(question.table, (error) => (error ? reject(error) : resolve([])));
    question.columns.forEach(([name, declared]) => load.addColumn(name, KINDS[declared.split('(')[0]], { nullable: name !== 'id', ...options(declared) }));
    connection.execBulkLoad(load, question.rows.map((row) => row.map((text, at) => typed(question.columns[at][1], text))));
  });
}

connection.connect((error) => {
  if (error) { say({ error: error.message }); process.exit(1); }
  say({});
  let queue = Promise.resolve();
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    queue = queue.then(() => answer(JSON.parse(line)).then((rows) => say({ rows }), (failure) => say({ error: failure.message })));
  }).on('close', () => queue.then(() => process.exit(0)));
});
