//! A macro for enums whose variants have names in labels, flags, configuration and JSON, and the
//! enums that filter, aggregator and mesh share.

/// Declares an enum with a name for each variant, `ALL` of them in their order, `as_str` and
/// `parse`.
#[macro_export]
macro_rules! named {
    ($(#[$attribute:meta])* $visibility:vis enum $enum:ident {
        $($(#[$of_variant:meta])* $variant:ident = $name:literal),+ $(,)?
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        $visibility enum $enum {
            $($(#[$of_variant])* $variant),+
        }

        impl $enum {
            $visibility const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }

            $visibility fn parse(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.as_str() == name)
            }
        }
    };
}

named! {
    /// Which side of the sidecar a request came from.
    pub enum Direction {
        /// Towards the pod's own application.
        Inbound = "inbound",
        /// From the pod's own application.
        Outbound = "outbound",
    }
}

named! {
    /// What a filter plugin counts, and where Envoy runs it.
    pub enum Role {
        /// Requests that begin, that are in flight, that end.
        Filter = "filter",
        /// Requests that ended, as access logger of the connection manager.
        AccessLog = "access_log",
        /// Attempts that reached an upstream connection, as access logger of the router.
        UpstreamLog = "upstream_log",
    }
}

#[cfg(test)]
mod tests {
    named! {
        enum Letter {
            /// Attributes of variants stay.
            A = "a",
            LongB = "long-b",
        }
    }

    #[test]
    fn gives_each_variant_its_name() {
        assert_eq!(Letter::ALL, [Letter::A, Letter::LongB]);
        assert_eq!(Letter::ALL.map(Letter::as_str), ["a", "long-b"]);
        assert_eq!(Letter::parse("long-b"), Some(Letter::LongB));
        assert_eq!(Letter::parse("LongB"), None);
    }
}
