//! Numbers as text (stage 4's lasting form). `format!` writes the same, and takes several times as long.

/// Adds a number in decimal digits.
pub(crate) fn add_decimal(text: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return text.extend_from_slice(&digits[start..]);
        }
    }
}

/// Adds a number in hexadecimal digits.
pub(crate) fn add_hexadecimal(text: &mut Vec<u8>, mut number: u128) {
    let mut digits = [0; 32];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(number % 16) as usize];
        number /= 16;
        if number == 0 {
            return text.extend_from_slice(&digits[start..]);
        }
    }
}

/// Writes the last digits of a number over those that are there.
pub(crate) fn set_decimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_written_as_by_format(number: u128) {
            for number in [number, number % 1_000, 0, u128::MAX] {
                let (mut decimal, mut hexadecimal) = (Vec::new(), Vec::new());
                add_decimal(&mut decimal, number as u64);
                add_hexadecimal(&mut hexadecimal, number);
                prop_assert_eq!(decimal, format!("{}", number as u64).into_bytes());
                prop_assert_eq!(hexadecimal, format!("{number:x}").into_bytes());
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_off_at_the_front() {
        let mut digits = *b"----";
        set_decimal(&mut digits, 7);
        assert_eq!(&digits, b"0007");
        set_decimal(&mut digits[1..3], 1_234);
        assert_eq!(&digits, b"0347");
    }
}
