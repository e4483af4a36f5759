//! The outside world we read from: Entra ID and the Office 365 Management Activity API.
