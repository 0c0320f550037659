//! What people write: names, comments and file names, in many scripts and with the characters that
//! break careless code.

pub const FIRST_NAMES: &[&str] = &[
    "Ada",
    "Álvaro",
    "Amélie",
    "Björn",
    "Chloé",
    "Dmitri",
    "Eʻoma",
    "Grace",
    "Hélène",
    "İbrahim",
    "Jürgen",
    "Kiều",
    "Łukasz",
    "Mary Ann",
    "Nuria",
    "Óscar",
    "Søren",
    "Zoë",
    "Дарья",
    "美咲",
    "지훈",
    "عمر",
    "नेहा",
    "O'Neil",
];

pub const LAST_NAMES: &[&str] = &[
    "Andersson",
    "Ben-David",
    "Çelik",
    "D'Angelo",
    "Faß",
    "García",
    "Ivanović",
    "Kowalski",
    "Lovelace",
    "Müller",
    "Nguyễn",
    "Ó Briain",
    "Þórsdóttir",
    "Ünal",
    "van den Berg",
    "王",
    "김",
    "佐藤",
    "شريف",
    "शर्मा",
];

/// Logins are ASCII for most; a letter beyond it reaches the id of the user.
pub const LOGINS: &[&str] = &[
    "ada",
    "alvaro",
    "amelie",
    "bjorn",
    "chloe",
    "dmitri",
    "grace",
    "helene",
    "jurgen",
    "lukasz",
    "mary.ann",
    "nuria",
    "oscar",
    "søren",
    "zoë",
    "дарья",
];

pub const COMMENTS: &[&str] = &[
    "",
    "",
    "",
    "The slides of Tuesday's meeting",
    "# Release 2.1\n\n- **signed** packages\n- `SHA256SUMS`\n",
    "Fotos vom Ausflug – bitte nur für die Familie",
    "愛 الحب 사랑 αγάπη любовь प्यार Սեր माया",
    "Quotes: ' \" ` and a backslash \\ and a tab\tin between",
    "'); DROP TABLE uploads; --",
    "👩‍👩‍👧 emoji, e\u{301} combined and \u{200f}right to left",
    "<script>alert(1)</script> & <b>bold</b>",
    "line one\r\nline two\r\n",
    "\\N",
    "C:\\Users\\söder\\report.pdf",
];

/// Name, MIME type, and whether the content is text.
pub const FILES: &[(&str, &str, bool)] = &[
    ("report.pdf", "application/pdf", false),
    ("Jahresbericht für März.pdf", "application/pdf", false),
    ("IMG_2041.JPG", "image/jpeg", false),
    ("été à la plage.png", "image/png", false),
    ("写真.webp", "image/webp", false),
    ("backup.tar.gz", "application/gzip", false),
    ("logs.zip", "application/zip", false),
    ("movie.mp4", "video/mp4", false),
    ("заметки.txt", "text/plain; charset=utf-8", true),
    ("README.md", "text/plain; charset=utf-8", true),
    ("data \"final\" (1).csv", "text/plain; charset=utf-8", true),
    ("O'Neil & sons.html", "text/html; charset=utf-8", true),
    ("100% sure?.bin", "application/octet-stream", false),
    ("🎉.gif", "image/gif", false),
    ("تقرير.docx", "application/octet-stream", false),
    (".profile", "text/plain; charset=utf-8", true),
    ("noextension", "application/octet-stream", false),
];

pub const DEVICES: &[&str] = &[
    "laptop",
    "phone",
    "backup script",
    "CI",
    "büro-pc",
    "Дом",
    "研究室",
    "",
];

pub const THEMES: &[&str] = &["", "", "dark", "light"];
pub const LANGUAGES: &[&str] = &["", "", "en", "fr", "de", "zh"];
