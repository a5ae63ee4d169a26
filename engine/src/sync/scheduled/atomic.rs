//! Atomics: the standard library's. In a world whose order says so every access is a point.

use std::sync::atomic as plain;
pub use std::sync::atomic::{Ordering, fence};

use super::world::here;

#[track_caller]
fn point() {
    if let Some((world, me)) = here()
        && world.has_atomics()
    {
        world.point(me, std::panic::Location::caller());
    }
}

macro_rules! common {
    ($(#[$doc:meta])* $name:ident, $value:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name(plain::$name);

        impl From<$value> for $name {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }

        impl $name {
            /// With this value.
            #[must_use]
            pub const fn new(value: $value) -> Self {
                Self(plain::$name::new(value))
            }

            /// The value.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                point();
                self.0.load(order)
            }

            /// Sets the value.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                point();
                self.0.store(value, order);
            }

            /// Sets the value; the one before.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.swap(value, order)
            }

            /// Sets the value if it is `current`.
            ///
            /// # Errors
            /// With the value if it is another.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                point();
                self.0.compare_exchange(current, new, done, failed)
            }

            /// As [`Self::compare_exchange`]; never fails without a reason here.
            ///
            /// # Errors
            /// With the value if it is another.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $value,
                new: $value,
                done: Ordering,
                failed: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(current, new, done, failed)
            }

            /// Changes the value; the one before.
            ///
            /// # Errors
            /// With the value if `change` wants none.
            #[track_caller]
            pub fn fetch_update(
                &self,
                done: Ordering,
                failed: Ordering,
                change: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                point();
                self.0.fetch_update(done, failed, change)
            }

            /// The value, which no other thread can have.
            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            /// The value.
            #[must_use]
            pub fn into_inner(self) -> $value {
                self.0.into_inner()
            }
        }
    };
}

macro_rules! numbers {
    ($name:ident, $value:ty) => {
        common!(
            /// A number.
            $name,
            $value
        );

        impl $name {
            /// Adds; the value before.
            #[track_caller]
            pub fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_add(value, order)
            }

            /// Subtracts; the value before.
            #[track_caller]
            pub fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_sub(value, order)
            }

            /// The larger of both; the value before.
            #[track_caller]
            pub fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_max(value, order)
            }

            /// The smaller of both; the value before.
            #[track_caller]
            pub fn fetch_min(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_min(value, order)
            }

            /// Bits of both; the value before.
            #[track_caller]
            pub fn fetch_or(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_or(value, order)
            }

            /// Bits in both; the value before.
            #[track_caller]
            pub fn fetch_and(&self, value: $value, order: Ordering) -> $value {
                point();
                self.0.fetch_and(value, order)
            }
        }
    };
}

common!(
    /// Yes or no.
    AtomicBool,
    bool
);
numbers!(AtomicU8, u8);
numbers!(AtomicU16, u16);
numbers!(AtomicU32, u32);
numbers!(AtomicU64, u64);
numbers!(AtomicUsize, usize);
numbers!(AtomicI64, i64);

impl AtomicBool {
    /// Either; the value before.
    #[track_caller]
    pub fn fetch_or(&self, value: bool, order: Ordering) -> bool {
        point();
        self.0.fetch_or(value, order)
    }

    /// Both; the value before.
    #[track_caller]
    pub fn fetch_and(&self, value: bool, order: Ordering) -> bool {
        point();
        self.0.fetch_and(value, order)
    }
}
