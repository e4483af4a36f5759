//! JSON's tokens: where a string or number ends, what a string says, what a number is worth.

use std::borrow::Cow;

/// What is unusual in the text of a string.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TextFaults {
    /// A surrogate without its other half, a raw control character or bytes that are no UTF-8.
    pub(super) surrogate: bool,
    /// U+0000, raw or escaped.
    pub(super) nul: bool,
}

/// A string token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// Its bytes with both quotes.
    pub(super) length: usize,
    pub(super) faults: TextFaults,
}

pub(super) const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES * 0x80;

/// Fewer than eight bytes as one word, the first one lowest; zeros stand behind the last.
pub(super) fn short_word(bytes: &[u8]) -> u64 {
    let shifted = |word, byte: &u8| (word << 8) | u64::from(*byte);
    bytes.iter().rfold(0, shifted)
}

/// The high bit of each byte of a word that is `byte`; above the first such byte some others may be marked too.
#[inline]
pub(super) fn equal(word: u64, byte: u8) -> u64 {
    let differs = word ^ (ONES * u64::from(byte));
    differs.wrapping_sub(ONES) & !differs & HIGH
}

/// The high bit of the first byte of a word that does not stand for itself inside a string: a quote, a backslash or
/// one below 0x20. Higher bits mean nothing.
#[inline]
fn special(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    equal(word, b'"') | equal(word, b'\\') | control
}

/// How many bytes in front stand for themselves inside a string, at most all of them.
#[inline]
pub(super) fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for word in words {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let special = special(short_word(rest));
    at + ((special.trailing_zeros() / 8) as usize).min(rest.len())
}

/// Measures the string that begins at the quote in front of `bytes`; `None` if it does not end or has an unknown escape.
///
/// Bytes that are no UTF-8 are not looked for.
pub(super) fn string(bytes: &[u8]) -> Option<Token> {
    string_by(bytes, |at| at + plain(bytes.get(at..).unwrap_or_default()))
}

/// As [`string`], where `next` finds the next byte from a place on that does not stand for itself.
#[inline]
pub(super) fn string_by(bytes: &[u8], next: impl Fn(usize) -> usize) -> Option<Token> {
    let mut at = 1;
    let mut faults = TextFaults::default();
    loop {
        at = next(at);
        match bytes.get(at)? {
            b'"' => {
                let length = at + 1;
                return Some(Token { length, faults });
            }
            b'\\' => at += escape(bytes.get(at..)?, &mut faults)?,
            control => {
                faults.surrogate |= *control != 0;
                faults.nul |= *control == 0;
                at += 1;
            }
        }
    }
}

/// Measures the escape in front of `bytes`, a pair of surrogates as one.
#[inline]
fn escape(bytes: &[u8], faults: &mut TextFaults) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => numeric_escape(bytes, faults),
        _ => None,
    }
}

/// As [`escape`], for `\uXXXX`.
fn numeric_escape(bytes: &[u8], faults: &mut TextFaults) -> Option<usize> {
    let unit = unit(bytes)?;
    faults.nul |= unit == 0;
    match unit {
        0xD800..=0xDBFF if low_half(bytes.get(6..)?).is_some() => return Some(12),
        0xD800..=0xDFFF => faults.surrogate = true,
        _ => {}
    }
    Some(6)
}

/// The UTF-16 code unit of `\uXXXX` in front of `bytes`.
fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |value, digit| {
        Some(value * 16 + char::from(*digit).to_digit(16)?)
    })
}

fn low_half(bytes: &[u8]) -> Option<u32> {
    unit(bytes).filter(|unit| (0xDC00..=0xDFFF).contains(unit))
}

/// The text of a string token that [`string`] measured; what is no text, NUL included, becomes U+FFFD.
pub(super) fn text(token: &[u8]) -> Cow<'_, str> {
    let inner = token
        .get(1..token.len().saturating_sub(1))
        .unwrap_or_default();
    let inner =
        std::str::from_utf8(inner).map_or_else(|_| String::from_utf8_lossy(inner), Cow::Borrowed);
    if memchr::memchr2(b'\\', 0, inner.as_bytes()).is_none() {
        return inner;
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest: &str = &inner;
    while let Some(at) = rest.find(['\\', '\0']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let bytes = from.as_bytes();
        let (character, length) = match (bytes.first(), bytes.get(1)) {
            (Some(b'\\'), Some(b'u')) => match (unit(bytes), bytes.get(6..).and_then(low_half)) {
                (Some(high @ 0xD800..=0xDBFF), Some(low)) => {
                    let code = 0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00);
                    (char::from_u32(code), 12)
                }
                (Some(0) | None, _) => (None, 6),
                (Some(unit), _) => (char::from_u32(unit), 6),
            },
            (Some(b'\\'), Some(letter)) => {
                let character = match letter {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    other => char::from(*other),
                };
                (Some(character), 2)
            }
            _ => (None, 1),
        };
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = from.get(length..).unwrap_or_default();
    }
    text.push_str(rest);
    Cow::Owned(text)
}

/// Measures the number in front of `bytes` if it is up to seven digits and nothing else: the ordinary case.
#[inline]
pub(super) fn small_number(bytes: &[u8]) -> Option<usize> {
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    let values = word ^ (ONES * u64::from(b'0'));
    // above the first byte that is no digit bits mean nothing
    let others = (values.wrapping_add(ONES * (0x80 - 10)) | values) & HIGH;
    let bits = others.trailing_zeros() & !7;
    let behind = word.checked_shr(bits)?.to_le_bytes()[0];
    let odd = matches!(behind, b'.' | b'e' | b'E') || bits == 0;
    let leading_zero = bits > 8 && bytes.first() == Some(&b'0');
    (!odd && !leading_zero).then_some((bits / 8) as usize)
}

/// Measures the number in front of `bytes`; `None` if JSON's grammar knows no such number.
#[inline]
pub(super) fn number(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        let rest = bytes.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let first = usize::from(bytes.first() == Some(&b'-'));
    let mut at = match bytes.get(first)? {
        b'0' => first + 1,
        b'1'..=b'9' => digits(first),
        _ => return None,
    };
    if bytes.get(at) == Some(&b'.') {
        let end = digits(at + 1);
        if end == at + 1 {
            return None;
        }
        at = end;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let end = digits(at + 1 + sign);
        if end == at + 1 + sign {
            return None;
        }
        at = end;
    }
    Some(at)
}

/// Whether Wazuh keeps the value of this number token.
///
/// Outside arrays it prints whole numbers up to ±(2^31−1) and ruins others; inside arrays it keeps 15 digits. The indexer takes
/// no whole number there beyond 64 bits, and no other beyond a `float`.
#[inline]
pub(super) fn number_survives(token: &[u8], in_array: bool) -> bool {
    // nine digits and a sign at most, and nothing else: the ordinary case
    if token.len() <= 9
        && token
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'-')
    {
        return true;
    }
    // cJSON reads so much of a token, and refuses an event with what is left
    if token.len() > LONGEST_NUMBER {
        return false;
    }
    let Some(number) = decimal(token) else {
        return false;
    };
    if in_array {
        let digits = i64::try_from(number.digits).unwrap_or(i64::MAX);
        // and not so small that a double does not hold it
        return digits <= 15 && digits + number.exponent <= 18 && number.exponent > -290;
    }
    let power = u32::try_from(number.exponent)
        .ok()
        .and_then(|exponent| 10_u64.checked_pow(exponent));
    power.is_some_and(|power| number.value.saturating_mul(power) <= 2_147_483_647)
}

/// The longest number token that cJSON reads, in bytes.
const LONGEST_NUMBER: usize = 63;

/// A number token's significant digits.
struct Decimal {
    /// How many there are; none for zero.
    digits: usize,
    /// What they are worth as a whole number, or the largest there is.
    value: u64,
    /// The power of ten of the last one.
    exponent: i64,
}

/// Takes a number token apart; `None` if its exponent is absurd.
fn decimal(token: &[u8]) -> Option<Decimal> {
    let token = std::str::from_utf8(token).ok()?;
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (mut digits, mut value, mut zeros, mut behind_point) = (0, 0_u64, 0, None);
    for byte in mantissa.bytes().filter(|byte| *byte != b'-') {
        if byte == b'.' {
            behind_point = Some(0);
            continue;
        }
        behind_point = behind_point.map(|count| count + 1);
        if byte != b'0' {
            for _ in 0..=zeros {
                value = value.saturating_mul(10);
            }
            value = value.saturating_add((byte - b'0').into());
            digits += zeros + 1;
            zeros = 0;
        } else if digits > 0 {
            zeros += 1;
        }
    }
    let exponent = if digits == 0 {
        0
    } else {
        let zeros = i64::try_from(zeros).ok()?;
        let exponent: i64 = exponent.parse().ok()?;
        exponent.checked_add(zeros)? - behind_point.unwrap_or(0)
    };
    Some(Decimal {
        digits,
        value,
        exponent,
    })
}

/// Appends sound JSON without the white space between its tokens.
pub(super) fn compact(json: &[u8], out: &mut Vec<u8>) {
    let mut rest = json;
    while let Some(byte) = rest.first() {
        let length = match byte {
            b'"' => string(rest).map_or(rest.len(), |token| token.length),
            _ => 1,
        };
        let (token, behind) = rest.split_at(length);
        if !byte.is_ascii_whitespace() {
            out.extend_from_slice(token);
        }
        rest = behind;
    }
}
