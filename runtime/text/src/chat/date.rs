//! Today's date for chat templates, in the manner of C's `strftime`, universal time.

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

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

/// From Sunday on.
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A date by a format, in the words of C's own locale. A directive that is not known is an error.
pub fn format(seconds: u64, format: &str) -> Result<String, Error> {
    let moment = Moment::at(seconds);
    let (mut out, mut letters) = (String::new(), format.chars());
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let directive = letters.next();
        let (plain, directive) = if directive == Some('-') { (true, letters.next()) } else { (false, directive) };
        let text = directive.and_then(|directive| moment.part(directive)).ok_or_else(|| {
            let what = format!("`strftime_now` does not know `%{}`", directive.unwrap_or_default());
            Error::new(ErrorKind::InvalidOperation, what)
        })?;
        // A number without zeros before it, as glibc has it.
        let bare = text.trim_start_matches(['0', ' ']);
        match plain {
            true if bare.is_empty() => out.push('0'),
            true => out += bare,
            false => out += &text,
        }
    }
    Ok(out)
}

/// A moment of the calendar.
struct Moment {
    second: u64,
    year: u64,
    month: u64,
    day: u64,
    /// Of the week, from 0 for Sunday.
    weekday: u64,
    /// Of the year, from 0.
    yearday: u64,
}

impl Moment {
    fn at(seconds: u64) -> Moment {
        let days = seconds / 86_400;
        let (year, month, day) = civil(days);
        let weekday = (days + 4) % 7;
        Moment { second: seconds % 86_400, year, month, day, weekday, yearday: days - first_of(year) }
    }

    /// What a directive stands for.
    fn part(&self, directive: char) -> Option<String> {
        let Moment { second, year, month, day, weekday, yearday } = *self;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let twelve = (hour + 11) % 12 + 1;
        let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[weekday as usize]);
        let all = |directives: &str| {
            directives.chars().map(|d| if d.is_alphabetic() { self.part(d) } else { Some(d.into()) }).collect()
        };
        Some(match directive {
            'd' => format!("{day:02}"),
            'e' => format!("{day:2}"),
            'm' => format!("{month:02}"),
            'b' | 'h' => month_name[..3].to_owned(),
            'B' => month_name.to_owned(),
            'a' => day_name[..3].to_owned(),
            'A' => day_name.to_owned(),
            'Y' => year.to_string(),
            'y' => format!("{:02}", year % 100),
            'C' => format!("{:02}", year / 100),
            'H' => format!("{hour:02}"),
            'I' => format!("{twelve:02}"),
            'M' => format!("{minute:02}"),
            'S' => format!("{second:02}"),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'j' => format!("{:03}", yearday + 1),
            'w' => weekday.to_string(),
            'u' => ((weekday + 6) % 7 + 1).to_string(),
            'U' => format!("{:02}", (yearday + 7 - weekday) / 7),
            'W' => format!("{:02}", (yearday + 7 - (weekday + 6) % 7) / 7),
            'G' => self.iso_week().0.to_string(),
            'V' => format!("{:02}", self.iso_week().1),
            'D' | 'x' => return all("m/d/y"),
            'F' => return all("Y-m-d"),
            'R' => return all("H:M"),
            'T' | 'X' => return all("H:M:S"),
            'c' => return all("a b e H:M:S Y"),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        })
    }

    /// Year and week by ISO 8601: a week belongs to the year that its Thursday is in.
    fn iso_week(&self) -> (u64, u64) {
        let thursday = first_of(self.year) + self.yearday + 3 - (self.weekday + 6) % 7;
        let (year, ..) = civil(thursday);
        (year, (thursday - first_of(year)) / 7 + 1)
    }
}

/// The days from 1970 to a year's first.
fn first_of(year: u64) -> u64 {
    let before = year - 1;
    before * 365 + before / 4 - before / 100 + before / 400 - 719_162
}

/// Year, month and day of a day since 1970: in years that begin in March, leap days come last and months have a pattern.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year + 400 * era + u64::from(month <= 2), month, day - (153 * march + 2) / 5 + 1)
}
