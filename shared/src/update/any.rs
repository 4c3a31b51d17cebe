//! lib0's `any` values: what maps and arrays of a Y.Doc hold.
//!
//! Two readers of the same bytes: [`skip_any`] checks without building, for the scan;
//! [`AnyValues`] builds JSON afterwards, of what somebody wants to look at.

use serde_json::{Map, Number, Value};

use crate::codec::{DecodeError, MAX_DEPTH, MAX_INTEGER, Reader};

const UNDEFINED: u8 = 127;
const NULL: u8 = 126;
const INTEGER: u8 = 125;
const FLOAT32: u8 = 124;
const FLOAT64: u8 = 123;
const BIGINT: u8 = 122;
const FALSE: u8 = 121;
const TRUE: u8 = 120;
const STRING: u8 = 119;
const OBJECT: u8 = 118;
const ARRAY: u8 = 117;
const BYTES: u8 = 116;

/// The length of an empty key and a tag; a tag.
const MIN_MEMBER_BYTES: u64 = 2;
const MIN_VALUE_BYTES: u64 = 1;

/// A run of `any` values that a scan has checked, not yet built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyValues<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> AnyValues<'a> {
    /// Checks the next `len` values and takes them.
    pub(super) fn read(reader: &mut Reader<'a>, len: usize) -> Result<Self, DecodeError> {
        let before = reader.rest();
        for _ in 0..len {
            skip_any(reader, 0)?;
        }
        let bytes = &before[..before.len() - reader.remaining()];
        Ok(Self { bytes, len })
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the first value is an object.
    pub(super) fn starts_with_object(&self) -> bool {
        self.bytes.first() == Some(&OBJECT)
    }

    /// Builds the values as JSON, one by one.
    ///
    /// JavaScript's numbers have one type: a whole number up to 2^53 - 1 becomes an integer, also
    /// where lib0 writes a float (from 2^31 on; every time in milliseconds). What JSON does not
    /// have (`undefined`, NaN, infinities, byte arrays) becomes `null`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.len).map(move |_| read_any(&mut reader).expect("skip_any has read these bytes"))
    }
}

/// Reads one value and keeps nothing of it.
fn skip_any(reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
    match reader.byte()? {
        UNDEFINED | NULL | TRUE | FALSE => {}
        INTEGER => {
            reader.var_int()?;
        }
        FLOAT32 => {
            reader.take(4)?;
        }
        FLOAT64 | BIGINT => {
            reader.take(8)?;
        }
        STRING => {
            reader.var_string()?;
        }
        BYTES => {
            reader.var_bytes()?;
        }
        OBJECT | ARRAY if depth == MAX_DEPTH => return Err(DecodeError::TooDeep),
        OBJECT => {
            for _ in 0..reader.count(MIN_MEMBER_BYTES)? {
                reader.var_string()?;
                skip_any(reader, depth + 1)?;
            }
        }
        ARRAY => {
            for _ in 0..reader.count(MIN_VALUE_BYTES)? {
                skip_any(reader, depth + 1)?;
            }
        }
        tag => return Err(unknown(tag)),
    }
    Ok(())
}

/// Builds one value. Only for bytes that [`skip_any`] has read: the depth is not checked here.
fn read_any(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Ok(match reader.byte()? {
        UNDEFINED | NULL => Value::Null,
        TRUE => Value::Bool(true),
        FALSE => Value::Bool(false),
        INTEGER => reader.var_int()?.into(),
        FLOAT32 => number(f32::from_be_bytes(array(reader)?).into()),
        FLOAT64 => number(f64::from_be_bytes(array(reader)?)),
        BIGINT => i64::from_be_bytes(array(reader)?).into(),
        STRING => reader.var_string()?.into(),
        BYTES => {
            reader.var_bytes()?;
            Value::Null
        }
        OBJECT => {
            let mut object = Map::new();
            for _ in 0..reader.count(MIN_MEMBER_BYTES)? {
                let key = reader.var_string()?;
                object.insert(key.to_owned(), read_any(reader)?);
            }
            Value::Object(object)
        }
        ARRAY => {
            let count = reader.count(MIN_VALUE_BYTES)?;
            let values: Result<Vec<_>, _> = (0..count).map(|_| read_any(reader)).collect();
            Value::Array(values?)
        }
        tag => return Err(unknown(tag)),
    })
}

fn array<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
    let mut bytes = [0; N];
    bytes.copy_from_slice(reader.take(N)?);
    Ok(bytes)
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() <= MAX_INTEGER as f64 {
        return (value as i64).into();
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn unknown(tag: u8) -> DecodeError {
    DecodeError::Unknown {
        what: "kind of value",
        value: tag.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use yrs::Any;
    use yrs::encoding::write::Write as _;

    fn values(bytes: &[u8], len: usize) -> Result<Vec<Value>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let values = AnyValues::read(&mut reader, len)?;
        reader.finish()?;
        Ok(values.iter().collect())
    }

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = [ARRAY, 1].repeat(depth);
        bytes.push(NULL);
        bytes
    }

    #[test]
    fn values_are_what_yrs_wrote() {
        let cases = [
            (Any::Null, json!(null)),
            (Any::Undefined, json!(null)),
            (Any::from(true), json!(true)),
            (Any::from(-42), json!(-42)),
            (
                Any::from(1_732_166_400_123_i64),
                json!(1_732_166_400_123_i64),
            ),
            (Any::from(5e9), json!(5_000_000_000_i64)),
            (Any::from(1.1), json!(1.1)),
            (Any::from(1e30), json!(1e30)),
            (Any::from(f64::NAN), json!(null)),
            (Any::from((1_i64 << 60) + 1), json!((1_i64 << 60) + 1)),
            (Any::from("é😀"), json!("é😀")),
            (Any::from(vec![1_u8, 2]), json!(null)),
            (
                Any::from_json(r#"{"a":[{},"b"]}"#).unwrap(),
                json!({"a": [{}, "b"]}),
            ),
        ];
        let mut all = Vec::new();
        for (any, expected) in &cases {
            let mut bytes = Vec::new();
            any.encode(&mut bytes);
            assert_eq!(values(&bytes, 1), Ok(vec![expected.clone()]), "{any:?}");
            all.write_all(&bytes);
        }
        let expected: Vec<_> = cases.iter().map(|(_, expected)| expected.clone()).collect();
        assert_eq!(values(&all, cases.len()), Ok(expected));
    }

    #[test]
    fn a_number_is_an_integer_as_far_as_javascript_tells() {
        let float64 = |value: f64| [&[FLOAT64][..], &value.to_be_bytes()].concat();
        assert_eq!(
            values(&float64(MAX_INTEGER as f64), 1),
            Ok(vec![json!(MAX_INTEGER)])
        );
        assert_eq!(values(&float64(-0.0), 1), Ok(vec![json!(0)]));
        let beyond = values(&float64(2_f64.powi(60)), 1).unwrap();
        assert!(beyond[0].is_f64(), "{beyond:?}");
    }

    #[test]
    fn depth_is_bounded_to_the_level() {
        assert!(values(&nested(MAX_DEPTH), 1).is_ok());
        assert_eq!(values(&nested(MAX_DEPTH + 1), 1), Err(DecodeError::TooDeep));
        assert_eq!(values(&nested(500_000), 1), Err(DecodeError::TooDeep));
    }

    #[test]
    fn counts_and_tags_are_checked() {
        assert!(matches!(
            values(&[OBJECT, 0xff, 0xff, 0xff, 0x7a], 1),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            values(&[ARRAY, 2, NULL], 1),
            Err(DecodeError::Truncated { .. })
        ));
        assert!(matches!(
            values(&[115], 1),
            Err(DecodeError::Unknown { value: 115, .. })
        ));
    }
}
