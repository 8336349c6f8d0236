//! A deserializer that wraps another one and reads null as the zero value of the requested type.
//!
//! Each value is requested as an `Option` first. A value that is not null is read by the inner
//! deserializer; lists, maps and structs are wrapped in turn, so that null is handled inside of
//! them too. The content of enums and self-describing values (`Value`, and what serde buffers for
//! `flatten` and `untagged`) is read unchanged.

use std::{fmt, iter};

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads null as the zero value.
pub(crate) struct Reader<D>(pub(crate) D);

enum Kind {
    Bool,
    Signed,
    Unsigned,
    Float,
    Text,
    Bytes,
    List,
    Map,
    Struct(&'static str, &'static [&'static str]),
}

/// Reads a value as `kind` if it is not null, else visits the zero value of `kind`.
struct OptionVisitor<V> {
    kind: Kind,
    visitor: V,
}

/// Wraps the values in a list, a map or an option in a [`Reader`].
struct Within<V>(V);

// === impl Reader ===

macro_rules! ask {
    ($($method:ident $kind:ident,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let kind = Kind::$kind;
            self.0.deserialize_option(OptionVisitor { kind, visitor })
        }
    )*};
}

macro_rules! pass {
    ($($method:ident($($name:ident: $type:ty),*),)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<D> {
    type Error = D::Error;

    ask! {
        deserialize_bool Bool,
        deserialize_i8 Signed,
        deserialize_i16 Signed,
        deserialize_i32 Signed,
        deserialize_i64 Signed,
        deserialize_u8 Unsigned,
        deserialize_u16 Unsigned,
        deserialize_u32 Unsigned,
        deserialize_u64 Unsigned,
        deserialize_f32 Float,
        deserialize_f64 Float,
        deserialize_str Text,
        deserialize_string Text,
        deserialize_bytes Bytes,
        deserialize_byte_buf Bytes,
        deserialize_seq List,
        deserialize_map Map,
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let kind = Kind::Struct(name, fields);
        self.0.deserialize_option(OptionVisitor { kind, visitor })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Within(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Within(visitor))
    }

    pass! {
        deserialize_any(),
        deserialize_ignored_any(),
        deserialize_identifier(),
        deserialize_char(),
        deserialize_unit(),
        deserialize_unit_struct(name: &'static str),
        deserialize_tuple(len: usize),
        deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
    }
}

// === impl OptionVisitor ===

impl<'de, V: Visitor<'de>> Visitor<'de> for OptionVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        let visitor = self.visitor;
        match self.kind {
            Kind::Bool => visitor.visit_bool(false),
            Kind::Signed => visitor.visit_i64(0),
            Kind::Unsigned => visitor.visit_u64(0),
            Kind::Float => visitor.visit_f64(0.0),
            Kind::Text => visitor.visit_borrowed_str(""),
            Kind::Bytes => visitor.visit_borrowed_bytes(b""),
            Kind::List => visitor.visit_seq(SeqDeserializer::new(iter::empty::<()>())),
            Kind::Map | Kind::Struct(..) => {
                visitor.visit_map(MapDeserializer::new(iter::empty::<((), ())>()))
            }
        }
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let visitor = self.visitor;
        match self.kind {
            Kind::Bool => inner.deserialize_bool(visitor),
            Kind::Signed => inner.deserialize_i64(visitor),
            Kind::Unsigned => inner.deserialize_u64(visitor),
            Kind::Float => inner.deserialize_f64(visitor),
            Kind::Text => inner.deserialize_str(visitor),
            Kind::Bytes => inner.deserialize_bytes(visitor),
            Kind::List => inner.deserialize_seq(Within(visitor)),
            Kind::Map => inner.deserialize_map(Within(visitor)),
            Kind::Struct(name, fields) => inner.deserialize_struct(name, fields, Within(visitor)),
        }
    }
}

// === impl Within ===

impl<'de, V: Visitor<'de>> Visitor<'de> for Within<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Reader(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Reader(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Within(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Within(members))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Within<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Reader(deserializer))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Within(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Within<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        // Not wrapped: keys of JSON objects are strings, never null.
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Within(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}
