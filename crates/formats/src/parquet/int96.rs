//! INT96, in which older writers put moments: a day and the nanoseconds of that day, for every year there is. The library
//! makes 64 bits of nanoseconds of it and wraps around beyond the year 2262 without a word. So such columns are decoded a
//! second time as microseconds, which have the range; both together are the moment.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, Decimal128Array};
use arrow_schema::{DataType, Schema, TimeUnit};
use dmg_connector::data_type;
use dmg_protocol::Kind;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as Physical;
use parquet::errors::Result;
use parquet::file::reader::ChunkReader;

use super::metadata;

/// Nanoseconds of a microsecond.
const STEP: u64 = 1000;

/// The second reading of a row group's columns of that type.
pub(super) struct Micros {
    reader: ParquetRecordBatchReader,
    columns: Vec<usize>,
}

impl Micros {
    /// None where there is no such column.
    pub(super) fn open<T: ChunkReader + Clone + 'static>(
        chunks: &T,
        file: &ArrowReaderMetadata,
        row_group: usize,
        rows: usize,
    ) -> Result<Option<Self>> {
        let fields = file.parquet_schema().root_schema().get_fields();
        let old =
            |index: &usize| fields[*index].is_primitive() && fields[*index].get_physical_type() == Physical::INT96;
        let columns: Vec<usize> = (0..fields.len()).filter(old).collect();
        if columns.is_empty() {
            return Ok(None);
        }
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let field = |(index, field): (usize, &Arc<arrow_schema::Field>)| {
            let kept = if columns.contains(&index) { &micros } else { field.data_type() };
            field.as_ref().clone().with_data_type(kept.clone())
        };
        let schema = Schema::new(file.schema().fields().iter().enumerate().map(field).collect::<Vec<_>>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let file = ArrowReaderMetadata::try_new(file.metadata().clone(), options)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(chunks.clone(), file);
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask).with_row_groups(vec![row_group]).with_batch_size(rows);
        Ok(Some(Micros { reader: builder.build()?, columns }))
    }

    /// Puts the moments in place of what the first reading made of them.
    pub(super) fn join(&mut self, arrays: &mut [ArrayRef]) -> std::result::Result<(), String> {
        let batch = self.reader.next().transpose().map_err(|error| metadata::damaged(&error))?;
        let columns = batch.as_ref().map_or(&[][..], |batch| batch.columns());
        if columns.len() != self.columns.len() {
            return Err("its columns have different numbers of rows".to_owned());
        }
        for (index, micros) in self.columns.iter().zip(columns) {
            let nanos = &arrays[*index];
            let moments = (nanos.len() == micros.len()).then(|| moments(micros, nanos)).flatten();
            arrays[*index] = moments.ok_or("it holds a moment with more or less than the time of a day")?;
        }
        Ok(())
    }
}

/// Each moment from its microseconds and the lowest 64 bits of its nanoseconds; `None` if they contradict each other.
fn moments(micros: &ArrayRef, nanos: &ArrayRef) -> Option<ArrayRef> {
    let (micros, nanos) =
        (micros.as_primitive_opt::<TimestampMicrosecondType>()?, nanos.as_primitive_opt::<TimestampNanosecondType>()?);
    let moment = |row: usize| {
        let base = i128::from(micros.value(row)) * i128::from(STEP);
        let rest = (nanos.value(row) as u64).wrapping_sub(base as u64);
        (rest < STEP).then(|| base + i128::from(rest))
    };
    let each = (0..nanos.len()).map(|row| if nanos.is_null(row) { Some(0) } else { moment(row) });
    let values = each.collect::<Option<Vec<i128>>>()?;
    let array = Decimal128Array::new(values.into(), nanos.nulls().cloned());
    Some(Arc::new(array.with_data_type(data_type(Kind::TimestampNanos))))
}
