//! Which types are keys.

use super::{Key, KeyReader, KeyWriter, Lookup, OwnedKey};

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn kind() -> String {
                "integer".to_owned()
            }

            fn write(&self, out: &mut KeyWriter<'_>) {
                out.integer(i128::from(*self));
            }
        }

        impl OwnedKey for $integer {
            fn read(from: &mut KeyReader<'_>) -> Option<Self> {
                let mut ahead = from.clone();
                let value = Self::try_from(ahead.integer()?).ok()?;
                *from = ahead;
                Some(value)
            }
        }

        impl Lookup<$integer> for $integer {}
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64, i128);

macro_rules! simple {
    ($($owned:ty, $kind:literal, $method:ident, |$value:ident| $written:expr;)*) => {$(
        impl Key for $owned {
            fn kind() -> String {
                $kind.to_owned()
            }

            fn write(&self, out: &mut KeyWriter<'_>) {
                let $value = self;
                out.$method($written);
            }
        }

        impl OwnedKey for $owned {
            fn read(from: &mut KeyReader<'_>) -> Option<Self> {
                from.$method()
            }
        }

        impl Lookup<$owned> for $owned {}
    )*};
}
simple! {
    String, "string", string, |value| value;
    Vec<u8>, "bytes", bytes, |value| value;
    f64, "float", float, |value| *value;
    bool, "boolean", boolean, |value| *value;
    uuid::Uuid, "uuid", uuid, |value| *value;
}

impl Key for () {
    fn kind() -> String {
        "unit".to_owned()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.unit();
    }
}

impl OwnedKey for () {
    fn read(from: &mut KeyReader<'_>) -> Option<Self> {
        from.unit()
    }
}

impl Lookup<Self> for () {}

impl Key for f32 {
    fn kind() -> String {
        f64::kind()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.float(f64::from(*self));
    }
}

impl OwnedKey for f32 {
    fn read(from: &mut KeyReader<'_>) -> Option<Self> {
        from.float().map(|value| value as Self)
    }
}

impl Lookup<Self> for f32 {}

impl Key for str {
    fn kind() -> String {
        String::kind()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.string(self);
    }
}

impl Lookup<String> for str {}

impl Key for [u8] {
    fn kind() -> String {
        Vec::<u8>::kind()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.bytes(self);
    }
}

impl Lookup<Vec<u8>> for [u8] {}

impl<const N: usize> Key for [u8; N] {
    fn kind() -> String {
        Vec::<u8>::kind()
    }

    fn write(&self, out: &mut KeyWriter<'_>) {
        out.bytes(self);
    }
}

impl<const N: usize> OwnedKey for [u8; N] {
    fn read(from: &mut KeyReader<'_>) -> Option<Self> {
        let mut ahead = from.clone();
        let array = ahead.bytes()?.try_into().ok()?;
        *from = ahead;
        Some(array)
    }
}

impl<const N: usize> Lookup<Self> for [u8; N] {}
impl<const N: usize> Lookup<Vec<u8>> for [u8; N] {}

macro_rules! tuples {
    ($(($($part:ident $form:ident $at:tt),+))*) => {$(
        impl<$($part: Key),+> Key for ($($part,)+) {
            fn kind() -> String {
                format!("({})", [$($part::kind()),+].join(", "))
            }

            fn write(&self, out: &mut KeyWriter<'_>) {
                $(self.$at.write_nested(out);)+
            }

            fn write_nested(&self, out: &mut KeyWriter<'_>) {
                out.tuple(|out| self.write(out));
            }
        }

        impl<$($part: OwnedKey),+> OwnedKey for ($($part,)+) {
            fn read(from: &mut KeyReader<'_>) -> Option<Self> {
                Some(($($part::read_nested(from)?,)+))
            }

            fn read_nested(from: &mut KeyReader<'_>) -> Option<Self> {
                from.tuple(Self::read)
            }
        }

        impl<$($part, $form: Lookup<$part>),+> Lookup<($($part,)+)> for ($($form,)+) {}
    )*};
}
tuples! {
    (A Qa 0)
    (A Qa 0, B Qb 1)
    (A Qa 0, B Qb 1, C Qc 2)
    (A Qa 0, B Qb 1, C Qc 2, D Qd 3)
    (A Qa 0, B Qb 1, C Qc 2, D Qd 3, E Qe 4)
    (A Qa 0, B Qb 1, C Qc 2, D Qd 3, E Qe 4, F Qf 5)
}

#[cfg(test)]
mod tests {
    use crate::key::KeyReader;
    use crate::key::{decode, encode};

    /// Goal: bytes sort as the keys do, and every key comes back.
    #[test]
    fn integers_sort() {
        let mut numbers = vec![i128::from(i64::MIN), i128::from(u64::MAX), i128::MIN, i128::MAX, 0];
        for bits in 0..127 {
            let power = 1_i128 << bits;
            numbers.extend([power - 1, power, power + 1, -power - 1, -power, 1 - power]);
        }
        numbers.sort_unstable();
        numbers.dedup();
        for pair in numbers.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
        }
        numbers.iter().for_each(|n| assert_eq!(decode(&encode(n)), Some(*n)));
        assert_eq!(encode(&1_u8), encode(&1_i64));
        assert_eq!(decode::<i8>(&encode(&128)), None);
    }

    #[test]
    fn floats_sort() {
        let floats = [
            f64::NEG_INFINITY,
            -1.5,
            -f64::MIN_POSITIVE,
            -0.0,
            0.0,
            1e-300,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ];
        for pair in floats.windows(2) {
            assert!(encode(&pair[0]) < encode(&pair[1]), "{pair:?}");
        }
        for float in floats {
            let back: f64 = decode(&encode(&float)).unwrap();
            assert_eq!(back.to_bits(), float.to_bits());
        }
    }

    #[test]
    fn strings_sort() {
        let texts = [
            "", "\0", "\0\0", "\0\u{1}", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "ab", "b", "\u{ff}",
        ];
        for pair in texts.windows(2) {
            assert!(encode(pair[0]) < encode(pair[1]), "{pair:?}");
            let (low, high) = ((pair[0], u64::MAX), (pair[1], 0_u64));
            assert!(encode(&low) < encode(&high), "{pair:?} as parts");
        }
        for text in texts {
            let back = decode::<(String, Vec<u8>)>(&encode(&(text, text.as_bytes().to_vec())));
            assert_eq!(back, Some((text.to_owned(), text.as_bytes().to_vec())));
        }
    }

    /// Goal: keys of different kinds never meet.
    #[test]
    fn kinds_differ() {
        let all = [
            encode(&1),
            encode(&1.0),
            encode(&true),
            encode("1"),
            encode(b"1"),
            encode(&()),
            encode(&uuid::Uuid::from_u128(1)),
            encode(&("a:b", "c")),
            encode(&("a", "b:c")),
            encode(&("a", ("b", "c"))),
            encode(&(("a", "b"), "c")),
            encode(&("a", "b", "c")),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
    }

    #[test]
    fn nested_parts_come_back() {
        let key = (("a".to_owned(), -7_i64), (true, (), [1_u8, 0]), 2.5_f64);
        assert_eq!(decode(&encode(&key)), Some(key.clone()));
        let readable = KeyReader::new(&encode(&key)).readable();
        assert_eq!(readable, r#"(("a", -7), (true, (), b"\x01\x00"), 2.5)"#);
    }

    /// Goal: no bytes make the reader panic or loop.
    #[test]
    fn hostile_bytes() {
        for first in 0..=255 {
            for rest in [&[][..], &[0], &[0xff], &[0, 0xff, 0], &[0x80; 20], &[8; 40]] {
                let bytes = [&[first], rest].concat();
                let _ = KeyReader::new(&bytes).readable();
                let _ = (decode::<String>(&bytes), decode::<i128>(&bytes), decode::<f64>(&bytes));
                let _ = (decode::<((u8,), bool)>(&bytes), decode::<uuid::Uuid>(&bytes));
            }
        }
        assert_eq!(decode::<i64>(&[0x32, 0, 1]), None, "not the shortest form");
    }
}
