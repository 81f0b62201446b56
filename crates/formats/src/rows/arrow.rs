//! Rows of Arrow and Parquet files.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::Row;

type Outcome<T> = Result<T, String>;

/// How the IPC file format begins; the stream format, which the `datasets` library writes, has no such mark.
const MARK: &[u8; 6] = b"ARROW1";

/// Rows of an Arrow IPC file, of either format.
pub(super) fn ipc(name: &str, mut file: File) -> Outcome<Vec<Row>> {
    let mut head = [0; MARK.len()];
    let marked = file.read_exact(&mut head).is_ok() && head == *MARK;
    file.rewind().map_err(|error| error.to_string())?;
    guarded(|| {
        let file = BufReader::new(file);
        if marked {
            rows(name, FileReader::try_new(file, None).map_err(explain)?)
        } else {
            rows(name, StreamReader::try_new(file, None).map_err(explain)?)
        }
    })
}

/// Rows of a Parquet file.
pub(super) fn parquet(name: &str, file: File) -> Outcome<Vec<Row>> {
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        rows(name, builder.build().map_err(|error| error.to_string())?)
    })
}

/// The Arrow crates check most of what a file says, and panic where they trust it too far: for us both are a damaged file.
fn guarded(read: impl FnOnce() -> Outcome<Vec<Row>>) -> Outcome<Vec<Row>> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the file is damaged".into()))
}

fn explain(error: ArrowError) -> String {
    error.to_string()
}

fn rows(name: &str, batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>) -> Outcome<Vec<Row>> {
    let mut all = Vec::new();
    for batch in batches {
        let batch = batch.map_err(explain)?;
        let schema = batch.schema();
        for i in 0..batch.num_rows() {
            let number = all.len() + 1;
            let fields = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
                let value =
                    value(column, i).map_err(|what| format!("row {number}, column \"{}\": {what}", field.name()))?;
                Ok((field.name().clone(), value))
            });
            all.push(Row { at: format!("{name}, row {number}"), value: fields.collect::<Outcome<_>>()? });
        }
    }
    Ok(all)
}

/// An entry of a column as JSON.
fn value(column: &dyn Array, i: usize) -> Outcome<Value> {
    if column.is_null(i) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($kind:ty) => {
            Value::from(column.as_primitive::<$kind>().value(i))
        };
    }
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::from(column.as_boolean().value(i)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => Value::from(column.as_primitive::<Float16Type>().value(i).to_f64()),
        DataType::Float32 => number!(Float32Type),
        DataType::Float64 => number!(Float64Type),
        DataType::Utf8 => Value::from(column.as_string::<i32>().value(i)),
        DataType::LargeUtf8 => Value::from(column.as_string::<i64>().value(i)),
        DataType::Utf8View => Value::from(column.as_string_view().value(i)),
        DataType::List(_) => list(&column.as_list::<i32>().value(i))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(i))?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(i))?,
        DataType::Struct(fields) => {
            let parts = fields.iter().zip(column.as_struct().columns());
            let parts = parts.map(|(field, column)| Ok((field.name().clone(), value(column, i)?)));
            Value::Object(parts.collect::<Outcome<Map<String, Value>>>()?)
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys()[i];
            value(dictionary.values(), key)?
        }
        other => return Err(format!("values of type {other} are not read")),
    })
}

fn list(items: &dyn Array) -> Outcome<Value> {
    (0..items.len()).map(|i| value(items, i)).collect::<Outcome<Vec<Value>>>().map(Value::Array)
}
