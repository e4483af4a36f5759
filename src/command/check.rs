//! stub
use std::{path::Path,io::Write};
pub(crate) fn check(p:&Path,_o:&mut impl Write)->crate::Result<()>{ crate::config::Settings::check(p)?; Ok(()) }
