"""What signs and short forms mean in spoken English."""

from __future__ import annotations

__all__ = [
    "ABBREVIATIONS",
    "CURRENCIES",
    "LETTERED",
    "MONTHS",
    "SIGNS",
    "SPELLED_CAPITALS",
    "TITLES",
    "TOP_LEVELS",
    "UNITS",
    "WEEKDAYS",
    "WORDS_IN_CAPITALS",
]

_MONTHS = "January February March April May June July August September October November December".split()
MONTHS = {
    short: name
    for name in _MONTHS
    for short in ((name.lower(), name[:3].lower(), "sept") if name == "September" else (name.lower(), name[:3].lower()))
}
"""Names and short forms, in the order of the year."""
WEEKDAYS = "Mon|Tues|Tue|Wed|Thurs|Thur|Thu|Fri|Sat|Sun"

_DOLLARS = ("dollar", "dollars", "cent", "cents")
CURRENCIES = {
    "$": _DOLLARS,
    "US$": ("U S dollar", "U S dollars", "cent", "cents"),
    "USD": ("U S dollar", "U S dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "CHF": ("Swiss franc", "Swiss francs", "centime", "centimes"),
}
"""One, many, and the hundredth part, one and many."""

_NAMES = {
    "km": "kilometre", "m": "metre", "cm": "centimetre", "mm": "millimetre", "mi": "mile", "yd": "yard", "kg": "kilogram",
    "g": "gram", "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "litre", "L": "litre",
    "ml": "millilitre", "mL": "millilitre", "ms": "millisecond", "s": "second", "sec": "second", "secs": "second",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "yrs": "year", "GB": "gigabyte",
    "MB": "megabyte", "KB": "kilobyte", "kB": "kilobyte", "TB": "terabyte", "W": "watt", "kW": "kilowatt", "MW": "megawatt",
    "kWh": "kilowatt hour", "V": "volt", "mAh": "milliamp hour", "ha": "hectare", "t": "tonne", "gal": "gallon",
    "cal": "calorie", "kcal": "kilocalorie",
}  # fmt: skip
UNITS = {
    **{short: (name, f"{name}s") for short, name in _NAMES.items()},
    "ft": ("foot", "feet"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "km/h": ("kilometre per hour", "kilometres per hour"),
    "kph": ("kilometre per hour", "kilometres per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "m/s": ("metre per second", "metres per second"),
    "kbps": ("kilobit per second", "kilobits per second"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Mbit/s": ("megabit per second", "megabits per second"),
    "Gbps": ("gigabit per second", "gigabits per second"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "sq ft": ("square foot", "square feet"),
    "km²": ("square kilometre", "square kilometres"),
}
"""After a number, one and many."""

ABBREVIATIONS = {
    "mr": "Mister", "mrs": "Missus", "ms": "Miz", "mx": "Mix", "prof": "Professor", "gen": "General", "col": "Colonel",
    "capt": "Captain", "lt": "Lieutenant", "sgt": "Sergeant", "rev": "Reverend", "hon": "Honourable", "sen": "Senator",
    "gov": "Governor", "pres": "President", "mt": "Mount", "jr": "Junior", "sr": "Senior", "ave": "Avenue",
    "blvd": "Boulevard", "rd": "Road", "apt": "apartment", "inc": "incorporated", "ltd": "limited", "corp": "corporation",
    "co": "company", "dept": "department", "vs": "versus", "etc": "et cetera", "e.g": "for example", "i.e": "that is",
    "eg": "for example", "approx": "approximately", "est": "estimated", "vol": "volume", "fig": "figure", "pp": "pages",
    "tel": "telephone", "ext": "extension", "temp": "temperature", "min": "minimum", "max": "maximum", "avg": "average",
    "incl": "including", "excl": "excluding", "misc": "miscellaneous", "hrs": "hours", "hr": "hour", "mins": "minutes",
    "cf": "compare", "et al": "et al", "ft": "feet", "oz": "ounces", "lbs": "pounds", "lb": "pounds",
}  # fmt: skip
"""Words with a full stop behind them."""

TITLES = frozenset(
    "mr mrs ms mx prof gen col capt lt sgt rev hon sen gov pres mt vs e.g i.e eg cf approx est fig vol tel".split()
)
"""Those that something always follows."""

SIGNS = {
    "%": "percent", "&": "and", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "#": "hash", "§": "section",
    "√": "the square root of", "π": "pi", "$": "dollars", "€": "euros", "£": "pounds", "¥": "yen", "±": "plus or minus",
    "×": "times", "·": "times", "*": "times", "÷": "divided by", "^": "to the power of", "<": "is less than",
    ">": "is greater than", "<=": "is at most", ">=": "is at least", "≤": "is at most", "≥": "is at least",
    "!=": "is not", "≠": "is not", "==": "equals", "≈": "is about",
}  # fmt: skip

TOP_LEVELS = "com|org|net|edu|gov|io|ai|dev|app|info|eu|co\\.uk|org\\.uk|ac\\.uk|uk|de|fr|ch|nl|ca|au|us|me|tv"
LETTERED = frozenset("uk us eu io ai tv ch nl fr de http https www html pdf".split())
"""Parts of addresses that are spelled."""

SPELLED_CAPITALS = frozenset("HTTPS HTML5 IEEE UEFA ISBN".split())
_WORDS = (
    "NASA NATO UNESCO UNICEF OPEC FIFA AIDS COVID SWAT RAM ROM PIN SIM GIF LASER RADAR SONAR SCUBA ZIP LAN WAN VAT "
    "NO YES NOT STOP GO ALL AND THE OR BUT NOW NEW OFF ON OUT UP DOWN IN IT IS ARE WAS BE TO OF FOR IF SO WE HE SHE YOU MY ME "
    "HIS HER OUR ANY ONE TWO TEN BIG BAD OLD TOP HOT RED END SALE FREE OPEN BEST GOOD MUST VERY ONLY READ WAIT HELP CALL PLAY "
    "THIS THAT WITH FROM HAVE WILL NEVER ALWAYS PLEASE AM AN AS AT BY DO"
).split()
WORDS_IN_CAPITALS = {
    **dict.fromkeys(_WORDS, ""),
    "OK": "okay",
    "JPEG": "jay peg",
    "SQL": "sequel",
    "MAX": "max",
    "ASAP": "as soon as possible",
}
"""Not spelled. With what is said where that is not the word itself."""
