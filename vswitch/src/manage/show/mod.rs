//! The status as text for people: what `vswitchctl show` prints.
