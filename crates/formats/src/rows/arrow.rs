//! Rows of Arrow and Parquet files.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader, read_footer_length};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Number, Value};

use super::guard::guarded;
use super::limit::Limit;
use super::{Outcome, Row, distinct, footer};

/// How the IPC file format begins; the stream format, which the `datasets` library writes, has no such mark.
const MARK: &[u8; 6] = b"ARROW1";

/// Rows of an Arrow IPC file, of either format.
pub(super) fn ipc(name: &str, mut file: File, limit: &mut Limit) -> Outcome<Vec<Row>> {
    let mut head = [0; MARK.len()];
    let marked = file.read_exact(&mut head).is_ok() && head == *MARK;
    file.rewind().map_err(|error| error.to_string())?;
    guarded(|| {
        if marked {
            blocks_end_within(&file).map_err(explain)?;
            let batches = FileReader::try_new(BufReader::new(file), None).map_err(explain)?;
            rows(name, &batches.schema(), batches, limit)
        } else {
            let batches = StreamReader::try_new(BufReader::new(file), None).map_err(explain)?;
            rows(name, &batches.schema(), batches, limit)
        }
    })
}

/// Refuses a file that is shorter than its footer says: the library reserves a block's memory before it reads it.
fn blocks_end_within(mut file: &File) -> Result<(), ArrowError> {
    // The footer's length and the mark once more.
    let mut end = [0; size_of::<i32>() + MARK.len()];
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::End(-(end.len() as i64)))?;
    file.read_exact(&mut end)?;
    let length = read_footer_length(end)? as u64;
    let start = size.checked_sub(end.len() as u64).and_then(|size| size.checked_sub(length));
    let damaged = |what: &str| ArrowError::IpcError(format!("the file is damaged: {what}"));
    file.seek(SeekFrom::Start(start.ok_or_else(|| damaged("its footer begins before it"))?))?;
    let mut footer = Vec::new();
    file.take(length).read_to_end(&mut footer)?;
    let footer = arrow_ipc::root_as_footer(&footer).map_err(|error| damaged(&error.to_string()))?;
    for block in [footer.dictionaries(), footer.recordBatches()].into_iter().flatten().flatten() {
        let parts = [block.offset(), block.metaDataLength().into(), block.bodyLength()];
        let end = parts.iter().try_fold(0, |sum: u64, &part| sum.checked_add(part.try_into().ok()?));
        if end.is_none_or(|end| end > size) {
            return Err(damaged("a block ends after it"));
        }
    }
    Ok(())
}

/// Rows of a Parquet file.
pub(super) fn parquet(name: &str, file: File, limit: &mut Limit) -> Outcome<Vec<Row>> {
    footer::check(&file)?;
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        let schema = builder.schema().clone();
        // What is not read is not unpacked: it may be images.
        let columns = builder.parquet_schema().root_schema().get_fields().iter().enumerate();
        let wanted = columns.filter(|(_, column)| schema.field_with_name(column.name()).is_ok_and(readable));
        let wanted = ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(i, _)| i));
        let batches = builder.with_projection(wanted).build().map_err(|error| error.to_string())?;
        rows(name, &schema, batches, limit)
    })
}

fn explain(error: ArrowError) -> String {
    error.to_string()
}

/// The rows of all batches. The schema is the file's: the batches may lack columns that are not read.
fn rows(
    name: &str,
    schema: &Schema,
    batches: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
    limit: &mut Limit,
) -> Outcome<Vec<Row>> {
    told_apart("", schema.fields())?;
    let mut all = Vec::new();
    for batch in batches {
        let batch = batch.map_err(explain)?;
        let schema = batch.schema();
        for i in 0..batch.num_rows() {
            limit.row()?;
            let number = all.len() + 1;
            let value = object(schema.fields(), batch.columns(), i, limit, |field, what| {
                format!("row {number}, column \"{field}\": {what}")
            });
            all.push(Row { at: format!("{name}, row {number}"), value: value? });
        }
    }
    Ok(all)
}

/// Refuses columns of one name, and such fields of a structure: an object would hold the last of them.
fn told_apart(within: &str, fields: &Fields) -> Outcome<()> {
    let path = |field: &Field| format!("{within}{}", field.name());
    distinct(fields.iter().map(|field| path(field)))?;
    for field in fields {
        let mut kind = field.data_type();
        while let DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) = kind {
            kind = item.data_type();
        }
        if let DataType::Struct(fields) = kind {
            told_apart(&format!("{}.", path(field)), fields)?;
        }
    }
    Ok(())
}

/// Whether values of a field's type are read. Of a structure, those fields are that can be.
fn readable(field: &Field) -> bool {
    fn kind(of: &DataType) -> bool {
        match of {
            DataType::Null | DataType::Boolean | DataType::Struct(_) => true,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => readable(item),
            DataType::Dictionary(_, word) => kind(word),
            other => other.is_integer(),
        }
    }
    kind(field.data_type())
}

/// An entry of columns that are read, as a JSON object.
fn object(
    fields: &Fields,
    columns: &[ArrayRef],
    i: usize,
    limit: &mut Limit,
    place: impl Fn(&str, String) -> String,
) -> Outcome<Map<String, Value>> {
    let mut map = Map::new();
    for (field, column) in fields.iter().zip(columns).filter(|(field, _)| readable(field)) {
        limit.values(1, field.name().len())?;
        let value = value(column, i, limit).map_err(|what| place(field.name(), what))?;
        map.insert(field.name().clone(), value);
    }
    Ok(map)
}

/// An entry of a column as JSON.
fn value(column: &dyn Array, i: usize, limit: &mut Limit) -> Outcome<Value> {
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
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(i).to_f64())?,
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(i).into())?,
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(i))?,
        DataType::Utf8 => text(column.as_string::<i32>().value(i), limit)?,
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(i), limit)?,
        DataType::Utf8View => text(column.as_string_view().value(i), limit)?,
        DataType::List(_) => list(&column.as_list::<i32>().value(i), limit)?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(i), limit)?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(i), limit)?,
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            Value::Object(object(fields, columns, i, limit, |field, what| format!("field \"{field}\": {what}"))?)
        }
        DataType::Dictionary(..) => {
            let dictionary = column.as_any_dictionary();
            let words = dictionary.values();
            // Of this entry alone: `normalized_keys` would make a list of the keys of all.
            let key = value(dictionary.keys(), i, limit)?.as_u64().and_then(|key| usize::try_from(key).ok());
            let key = key.filter(|&key| key < words.len()).ok_or("the dictionary has no such entry")?;
            value(words, key, limit)?
        }
        other => return Err(format!("values of type {other} are not read")),
    })
}

/// JSON has no infinities, and `null` would be another value.
fn float(number: f64) -> Outcome<Value> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("{number} is no number in JSON"))
}

fn text(words: &str, limit: &mut Limit) -> Outcome<Value> {
    limit.values(0, words.len())?;
    Ok(Value::from(words))
}

fn list(items: &dyn Array, limit: &mut Limit) -> Outcome<Value> {
    limit.values(items.len(), 0)?;
    (0..items.len()).map(|i| value(items, i, limit)).collect::<Outcome<Vec<Value>>>().map(Value::Array)
}
