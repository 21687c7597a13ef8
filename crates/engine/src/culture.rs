//! Cultures as data: how numbers and dates are written in the usual ones. What is not in the table is refused by name,
//! never taken for another.

use dmg_protocol::Fault;

/// How one culture writes numbers and dates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Culture {
    /// `fr-fr`; empty for the invariant one.
    pub(crate) name: &'static str,
    /// Between whole digits and fraction.
    pub(crate) decimal: char,
    /// Between groups of three digits; each of them is taken.
    pub(crate) groups: &'static [char],
    /// What `/` stands for in a date format.
    pub(crate) date_separator: &'static str,
    /// The short date, as a .NET format.
    pub(crate) short_date: &'static str,
    /// The long time, as a .NET format.
    pub(crate) long_time: &'static str,
    /// Before and after noon.
    pub(crate) halves: [&'static str; 2],
    /// Full names of months, as they stand alone.
    pub(crate) months: [&'static str; 12],
    /// Full names of months beside a day.
    pub(crate) months_beside_day: [&'static str; 12],
    /// Short names of months.
    pub(crate) short_months: [&'static str; 12],
    /// Full names of weekdays from Sunday on.
    pub(crate) days: [&'static str; 7],
    /// Short names of weekdays from Sunday on.
    pub(crate) short_days: [&'static str; 7],
}

const SPACES: &[char] = &['\u{202f}', '\u{a0}', ' '];

const EN_MONTHS: [&str; 12] = [
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
const EN_SHORT_MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const EN_DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const EN_SHORT_DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const NUMBERED_MONTHS: [&str; 12] =
    ["1月", "2月", "3月", "4月", "5月", "6月", "7月", "8月", "9月", "10月", "11月", "12月"];
const FR_MONTHS: [&str; 12] = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
];
const DE_MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];
const ES_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];
const IT_MONTHS: [&str; 12] = [
    "gennaio",
    "febbraio",
    "marzo",
    "aprile",
    "maggio",
    "giugno",
    "luglio",
    "agosto",
    "settembre",
    "ottobre",
    "novembre",
    "dicembre",
];
const PT_MONTHS: [&str; 12] = [
    "janeiro",
    "fevereiro",
    "março",
    "abril",
    "maio",
    "junho",
    "julho",
    "agosto",
    "setembro",
    "outubro",
    "novembro",
    "dezembro",
];
const NL_MONTHS: [&str; 12] = [
    "januari",
    "februari",
    "maart",
    "april",
    "mei",
    "juni",
    "juli",
    "augustus",
    "september",
    "oktober",
    "november",
    "december",
];

/// What a culture shares with the invariant one.
const INVARIANT: Culture = Culture {
    name: "",
    decimal: '.',
    groups: &[','],
    date_separator: "/",
    short_date: "MM/dd/yyyy",
    long_time: "HH:mm:ss",
    halves: ["AM", "PM"],
    months: EN_MONTHS,
    months_beside_day: EN_MONTHS,
    short_months: EN_SHORT_MONTHS,
    days: EN_DAYS,
    short_days: EN_SHORT_DAYS,
};

static CULTURES: &[Culture] = &[
    INVARIANT,
    Culture { name: "en-us", short_date: "M/d/yyyy", long_time: "h:mm:ss tt", ..INVARIANT },
    Culture { name: "en-gb", short_date: "dd/MM/yyyy", halves: ["am", "pm"], ..INVARIANT },
    Culture {
        name: "fr-fr",
        decimal: ',',
        groups: SPACES,
        short_date: "dd/MM/yyyy",
        months: FR_MONTHS,
        months_beside_day: FR_MONTHS,
        short_months: [
            "janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc.",
        ],
        days: ["dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"],
        short_days: ["dim.", "lun.", "mar.", "mer.", "jeu.", "ven.", "sam."],
        ..INVARIANT
    },
    Culture {
        name: "de-de",
        decimal: ',',
        groups: &['.'],
        date_separator: ".",
        short_date: "dd.MM.yyyy",
        months: DE_MONTHS,
        months_beside_day: DE_MONTHS,
        short_months: ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"],
        days: ["Sonntag", "Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag"],
        short_days: ["So", "Mo", "Di", "Mi", "Do", "Fr", "Sa"],
        ..INVARIANT
    },
    Culture {
        name: "es-es",
        decimal: ',',
        groups: &['.'],
        short_date: "dd/MM/yyyy",
        long_time: "H:mm:ss",
        halves: ["a. m.", "p. m."],
        months: ES_MONTHS,
        months_beside_day: ES_MONTHS,
        short_months: ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"],
        days: ["domingo", "lunes", "martes", "miércoles", "jueves", "viernes", "sábado"],
        short_days: ["dom", "lun", "mar", "mié", "jue", "vie", "sáb"],
        ..INVARIANT
    },
    Culture {
        name: "it-it",
        decimal: ',',
        groups: &['.'],
        short_date: "dd/MM/yyyy",
        months: IT_MONTHS,
        months_beside_day: IT_MONTHS,
        short_months: ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
        days: ["domenica", "lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato"],
        short_days: ["dom", "lun", "mar", "mer", "gio", "ven", "sab"],
        ..INVARIANT
    },
    Culture {
        name: "pt-br",
        decimal: ',',
        groups: &['.'],
        short_date: "dd/MM/yyyy",
        months: PT_MONTHS,
        months_beside_day: PT_MONTHS,
        short_months: ["jan.", "fev.", "mar.", "abr.", "mai.", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."],
        days: ["domingo", "segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado"],
        short_days: ["dom.", "seg.", "ter.", "qua.", "qui.", "sex.", "sáb."],
        ..INVARIANT
    },
    Culture {
        name: "nl-nl",
        decimal: ',',
        groups: &['.'],
        date_separator: "-",
        short_date: "dd-MM-yyyy",
        halves: ["a.m.", "p.m."],
        months: NL_MONTHS,
        months_beside_day: NL_MONTHS,
        short_months: ["jan", "feb", "mrt", "apr", "mei", "jun", "jul", "aug", "sep", "okt", "nov", "dec"],
        days: ["zondag", "maandag", "dinsdag", "woensdag", "donderdag", "vrijdag", "zaterdag"],
        short_days: ["zo", "ma", "di", "wo", "do", "vr", "za"],
        ..INVARIANT
    },
    Culture {
        name: "pl-pl",
        decimal: ',',
        groups: SPACES,
        date_separator: ".",
        short_date: "dd.MM.yyyy",
        months: [
            "styczeń",
            "luty",
            "marzec",
            "kwiecień",
            "maj",
            "czerwiec",
            "lipiec",
            "sierpień",
            "wrzesień",
            "październik",
            "listopad",
            "grudzień",
        ],
        months_beside_day: [
            "stycznia",
            "lutego",
            "marca",
            "kwietnia",
            "maja",
            "czerwca",
            "lipca",
            "sierpnia",
            "września",
            "października",
            "listopada",
            "grudnia",
        ],
        short_months: ["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"],
        days: ["niedziela", "poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota"],
        short_days: ["niedz.", "pon.", "wt.", "śr.", "czw.", "pt.", "sob."],
        ..INVARIANT
    },
    Culture {
        name: "ru-ru",
        decimal: ',',
        groups: SPACES,
        date_separator: ".",
        short_date: "dd.MM.yyyy",
        months: [
            "январь",
            "февраль",
            "март",
            "апрель",
            "май",
            "июнь",
            "июль",
            "август",
            "сентябрь",
            "октябрь",
            "ноябрь",
            "декабрь",
        ],
        months_beside_day: [
            "января",
            "февраля",
            "марта",
            "апреля",
            "мая",
            "июня",
            "июля",
            "августа",
            "сентября",
            "октября",
            "ноября",
            "декабря",
        ],
        short_months: [
            "янв.",
            "февр.",
            "март",
            "апр.",
            "май",
            "июнь",
            "июль",
            "авг.",
            "сент.",
            "окт.",
            "нояб.",
            "дек.",
        ],
        days: ["воскресенье", "понедельник", "вторник", "среда", "четверг", "пятница", "суббота"],
        short_days: ["вс", "пн", "вт", "ср", "чт", "пт", "сб"],
        ..INVARIANT
    },
    Culture {
        name: "ja-jp",
        short_date: "yyyy/MM/dd",
        long_time: "H:mm:ss",
        halves: ["午前", "午後"],
        months: NUMBERED_MONTHS,
        months_beside_day: NUMBERED_MONTHS,
        short_months: NUMBERED_MONTHS,
        days: ["日曜日", "月曜日", "火曜日", "水曜日", "木曜日", "金曜日", "土曜日"],
        short_days: ["日", "月", "火", "水", "木", "金", "土"],
        ..INVARIANT
    },
    Culture {
        name: "zh-cn",
        short_date: "yyyy/M/d",
        halves: ["上午", "下午"],
        months: ["一月", "二月", "三月", "四月", "五月", "六月", "七月", "八月", "九月", "十月", "十一月", "十二月"],
        months_beside_day: NUMBERED_MONTHS,
        short_months: NUMBERED_MONTHS,
        days: ["星期日", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六"],
        short_days: ["周日", "周一", "周二", "周三", "周四", "周五", "周六"],
        ..INVARIANT
    },
];

/// The culture of that name; absent or empty means the invariant one.
pub(crate) fn culture(name: Option<&str>) -> Result<&'static Culture, Fault> {
    let name = name.unwrap_or_default().trim().to_ascii_lowercase().replace('_', "-");
    let wanted = if name == "invariant" { "" } else { name.as_str() };
    CULTURES.iter().find(|culture| culture.name == wanted).ok_or_else(|| {
        let known = CULTURES.iter().map(|culture| culture.name).filter(|name| !name.is_empty());
        let known = known.collect::<Vec<_>>().join(", ");
        Fault::new("UserErrorNotSupported", format!("The culture \"{name}\" is not known here."))
            .remedy(format!("Use one of {known}, or leave the culture out for the invariant one."))
    })
}

impl Culture {
    /// A number of this culture as the invariant one writes it. `None` where separators stand in a wrong place, so that
    /// a decimal point is never taken for a separator of groups.
    pub(crate) fn plain_number(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let (sign, digits) = match text.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => ("-", rest),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let exponent = digits.find(['e', 'E']).unwrap_or(digits.len());
        let (mantissa, exponent) = digits.split_at(exponent);
        let (whole, fraction) = match mantissa.split_once(self.decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (mantissa, None),
        };
        let groups: Vec<&str> = whole.split(self.groups).collect();
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let grouped = groups.len() == 1
            || (groups[0].len() <= 3 && !groups[0].is_empty() && groups[1..].iter().all(|group| group.len() == 3));
        let digits_only = groups.iter().all(|group| all_digits(group)) && fraction.is_none_or(all_digits);
        if !grouped || !digits_only || mantissa.is_empty() {
            // Names of what is no number, such as NaN, are the same everywhere.
            return matches!(text, "NaN" | "Infinity" | "-Infinity").then(|| text.to_owned());
        }
        let point = if fraction.is_some() { "." } else { "" };
        Some([sign, &groups.concat(), point, fraction.unwrap_or_default(), exponent].concat())
    }

    /// A number of the invariant culture as this one writes it, without groups.
    pub(crate) fn own_number(&self, text: &str) -> String {
        text.replace('.', self.decimal.encode_utf8(&mut [0; 4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (name, text, expected) in [
            ("", "1,234.5", Some("1234.5")),
            ("en-us", "-1,234,567.89", Some("-1234567.89")),
            ("en-us", "1,5", None),
            ("de-de", "1.234,5", Some("1234.5")),
            ("de-de", "1,5e3", Some("1.5e3")),
            ("de-de", "1.5", None),
            ("fr-fr", "1\u{202f}234,5", Some("1234.5")),
            ("fr-fr", "1 234,5", Some("1234.5")),
            ("fr-fr", "12 34", None),
            ("ru-ru", "x", None),
            ("en-us", "NaN", Some("NaN")),
            ("en-us", "", None),
            ("en-us", ",5", None),
            ("en-us", ".5", Some(".5")),
        ] {
            let culture = culture(Some(name)).expect("known");
            assert_eq!(culture.plain_number(text).as_deref(), expected, "{text} in {name}");
        }
        assert_eq!(culture(Some("pl-PL")).expect("known").own_number("-1.50"), "-1,50");
        assert!(culture(Some("xx-yy")).expect_err("unknown").remedy.contains("pt-br"));
    }
}
