// SPDX-License-Identifier: MIT OR Apache-2.0

//! A clock that stands still until the test advances it. (`GstTestClock` is in a library that the recognizer's tests
//! must not depend on.)

use std::sync::atomic::{AtomicU64, Ordering};

use gst::{glib, subclass::prelude::*};

#[derive(Default)]
pub struct Imp {
    time: AtomicU64,
}

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "NemoSttTestClock";
    type Type = TestClock;
    type ParentType = gst::Clock;
}

impl ObjectImpl for Imp {}
impl GstObjectImpl for Imp {}

impl ClockImpl for Imp {
    fn internal_time(&self) -> gst::ClockTime {
        gst::ClockTime::from_nseconds(self.time.load(Ordering::SeqCst))
    }
}

glib::wrapper! {
    pub struct TestClock(ObjectSubclass<Imp>) @extends gst::Clock, gst::Object;
}

impl Default for TestClock {
    fn default() -> Self {
        glib::Object::new()
    }
}

impl TestClock {
    pub fn set(&self, time: gst::ClockTime) {
        self.imp().time.store(time.nseconds(), Ordering::SeqCst);
    }
}
