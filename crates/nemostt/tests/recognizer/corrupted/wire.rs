// SPDX-License-Identifier: MIT OR Apache-2.0

//! Protobuf's wire format, as far as needed to modify a message: everything else is preserved byte by byte.

/// One field of a message, in the order of the file.
#[derive(Clone)]
pub struct Field {
    pub number: u64,
    pub value: Value,
}

#[derive(Clone)]
pub enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

/// A message, its fields still encoded.
#[derive(Clone)]
pub struct Message(pub Vec<Field>);

impl Message {
    /// Decodes the fields of a complete message.
    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Value::Varint(varint(&mut bytes)),
                1 => Value::Fixed64(take(&mut bytes, 8).try_into().unwrap()),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length).to_vec())
                }
                5 => Value::Fixed32(take(&mut bytes, 4).try_into().unwrap()),
                other => panic!("wire type {other}"),
            };
            let number = tag >> 3;
            fields.push(Field { number, value });
        }
        Self(fields)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Field { number, value } in &self.0 {
            let mut tag = |wire| put_varint(&mut bytes, number << 3 | wire);
            match value {
                Value::Varint(value) => {
                    tag(0);
                    put_varint(&mut bytes, *value);
                }
                Value::Fixed64(value) => {
                    tag(1);
                    bytes.extend(value);
                }
                Value::Bytes(value) => {
                    tag(2);
                    put_varint(&mut bytes, value.len() as u64);
                    bytes.extend(value);
                }
                Value::Fixed32(value) => {
                    tag(5);
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    /// Positions of the fields with this number.
    pub fn places(&self, number: u64) -> Vec<usize> {
        (0..self.0.len())
            .filter(|&place| self.0[place].number == number)
            .collect()
    }

    /// The bytes of the field at `place`; empty if it has another type.
    pub fn bytes(&self, place: usize) -> &[u8] {
        match &self.0[place].value {
            Value::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The first field of this number as text.
    pub fn text(&self, number: u64) -> Option<String> {
        let place = *self.places(number).first()?;
        Some(String::from_utf8_lossy(self.bytes(place)).into_owned())
    }

    /// The message in the field at `place`.
    pub fn inner(&self, place: usize) -> Self {
        Self::decode(self.bytes(place))
    }

    pub fn set(&mut self, place: usize, bytes: Vec<u8>) {
        self.0[place].value = Value::Bytes(bytes);
    }

    /// Changes the message in the field at `place`.
    pub fn change<T>(&mut self, place: usize, change: impl FnOnce(&mut Self) -> T) -> T {
        let mut inner = self.inner(place);
        let result = change(&mut inner);
        self.set(place, inner.encode());
        result
    }

    pub fn push(&mut self, number: u64, value: Value) {
        self.0.push(Field { number, value });
    }

    /// The integers of a repeated field, packed or not.
    pub fn integers(&self, number: u64) -> Vec<u64> {
        let mut found = Vec::new();
        for place in self.places(number) {
            match &self.0[place].value {
                Value::Varint(value) => found.push(*value),
                Value::Bytes(packed) => {
                    let mut packed = packed.as_slice();
                    while !packed.is_empty() {
                        found.push(varint(&mut packed));
                    }
                }
                _ => (),
            }
        }
        found
    }

    /// Replaces all fields of this number.
    pub fn set_integers(&mut self, number: u64, values: &[u64]) {
        self.0.retain(|field| field.number != number);
        for &value in values {
            self.push(number, Value::Varint(value));
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
}
