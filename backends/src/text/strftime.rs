//! [`CivilTime`]: what `strftime_now` of a template writes.

use std::fmt::Write;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAY: i64 = 86_400;

/// A date and a time of day, without a zone: what a calendar and a clock on the wall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    year: i64,
    /// 0 to 11.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 1 to 366.
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: usize,
    /// 0 to 86,399.
    second_of_day: i64,
}

impl CivilTime {
    /// The time so many seconds after the beginning of 1970. For a zone other than UTC add its offset.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY);
        // Howard Hinnant's `civil_from_days`: years that begin in March, in eras of 400 of them.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let month = (month_from_march + 2) % 12;
        let year = era * 400 + year_of_era + i64::from(month < 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month < 2 {
            from_march - 305
        } else {
            from_march + 60 + i64::from(leap)
        };
        Self {
            year,
            month: month as usize,
            day: from_march - (153 * month_from_march + 2) / 5 + 1,
            day_of_year,
            // The first of January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7) as usize,
            second_of_day: seconds.rem_euclid(DAY),
        }
    }

    /// Python's `strftime` in the C locale. `Err` is the directive that is not known here.
    pub(super) fn format(&self, format: &str) -> Result<String, String> {
        let mut text = String::with_capacity(2 * format.len());
        let mut rest = format.chars();
        while let Some(letter) = rest.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            let mut directive = rest.next();
            // A GNU extension that templates use: no padding.
            let padded = directive != Some('-');
            if !padded {
                directive = rest.next();
            }
            let Some(directive) = directive else {
                return Err("%".to_owned());
            };
            self.put(directive, padded, &mut text)
                .ok_or_else(|| format!("%{}{directive}", if padded { "" } else { "-" }))?;
        }
        Ok(text)
    }

    fn put(&self, directive: char, padded: bool, text: &mut String) -> Option<()> {
        let (hour, minute, second) = (
            self.second_of_day / 3_600,
            self.second_of_day / 60 % 60,
            self.second_of_day % 60,
        );
        let hour_12 = (hour + 11) % 12 + 1;
        let mut number = |value: i64, width: usize| {
            let width = if padded { width } else { 1 };
            write!(text, "{value:0width$}").ok()
        };
        match directive {
            'Y' => number(self.year, 1),
            'y' => number(self.year.rem_euclid(100), 2),
            'm' => number(self.month as i64 + 1, 2),
            'd' => number(self.day, 2),
            'j' => number(self.day_of_year, 3),
            'H' => number(hour, 2),
            'I' => number(hour_12, 2),
            'M' => number(minute, 2),
            'S' => number(second, 2),
            _ => {
                text.push_str(match directive {
                    'B' => MONTHS[self.month],
                    'b' | 'h' => &MONTHS[self.month][..3],
                    'A' => DAYS[self.weekday],
                    'a' => &DAYS[self.weekday][..3],
                    'p' if hour < 12 => "AM",
                    'p' => "PM",
                    '%' => "%",
                    'F' => return self.put_all("%Y-%m-%d", text),
                    'T' => return self.put_all("%H:%M:%S", text),
                    _ => return None,
                });
                Some(())
            }
        }
    }

    fn put_all(&self, format: &str, text: &mut String) -> Option<()> {
        text.push_str(&self.format(format).ok()?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::CivilTime;

    #[test]
    fn it_writes_what_python_writes() {
        // From `datetime.fromtimestamp(s, UTC).strftime(...)`.
        let format = "%Y-%m-%d %H:%M:%S %y %j %I %p %A %a %B %b %-d %-m %-H %F %T %%";
        for (seconds, expected) in [
            (
                0,
                "1970-01-01 00:00:00 70 001 12 AM Thursday Thu January Jan 1 1 0 1970-01-01 00:00:00 %",
            ),
            (
                951_826_149,
                "2000-02-29 12:09:09 00 060 12 PM Tuesday Tue February Feb 29 2 12 2000-02-29 12:09:09 %",
            ),
            (
                951_868_800,
                "2000-03-01 00:00:00 00 061 12 AM Wednesday Wed March Mar 1 3 0 2000-03-01 00:00:00 %",
            ),
            (
                1_767_225_599,
                "2025-12-31 23:59:59 25 365 11 PM Wednesday Wed December Dec 31 12 23 2025-12-31 23:59:59 %",
            ),
            (
                1_735_603_200,
                "2024-12-31 00:00:00 24 366 12 AM Tuesday Tue December Dec 31 12 0 2024-12-31 00:00:00 %",
            ),
            (
                -1,
                "1969-12-31 23:59:59 69 365 11 PM Wednesday Wed December Dec 31 12 23 1969-12-31 23:59:59 %",
            ),
        ] {
            assert_eq!(CivilTime::from_unix(seconds).format(format).unwrap(), expected);
        }
        assert_eq!(CivilTime::from_unix(0).format("%Q"), Err("%Q".to_owned()));
        assert_eq!(CivilTime::from_unix(0).format("100%"), Err("%".to_owned()));
    }
}
