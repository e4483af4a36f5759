//! A fake Entra ID and Office 365 Management Activity API.
