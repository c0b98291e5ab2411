package files

// ContentType returns the media type for a file's name. The table is the
// server's own, so that an answer doesn't depend on what else is installed on
// the machine. Text is UTF-8 (RFC 9110 section 8.3.2 leaves it to the sender).
func ContentType(name []byte) string {
	var room [12]byte
	for i := len(name) - 1; i >= 0 && name[i] != '/' && len(name)-1-i <= len(room); i-- {
		if name[i] != '.' {
			continue
		}
		ext := room[:copy(room[:], name[i+1:])]
		for k, c := range ext {
			if c >= 'A' && c <= 'Z' {
				ext[k] = c + 'a' - 'A'
			}
		}
		if kind, ok := types[string(ext)]; ok {
			return kind
		}
		break
	}
	return "application/octet-stream"
}

const utf8 = "; charset=utf-8"

var types = map[string]string{
	"html":  "text/html" + utf8,
	"htm":   "text/html" + utf8,
	"css":   "text/css" + utf8,
	"js":    "text/javascript" + utf8,
	"mjs":   "text/javascript" + utf8,
	"txt":   "text/plain" + utf8,
	"text":  "text/plain" + utf8,
	"log":   "text/plain" + utf8,
	"conf":  "text/plain" + utf8,
	"md":    "text/markdown" + utf8,
	"csv":   "text/csv" + utf8,
	"tsv":   "text/tab-separated-values" + utf8,
	"ics":   "text/calendar" + utf8,
	"vcf":   "text/vcard" + utf8,
	"vtt":   "text/vtt" + utf8,
	"xml":   "text/xml" + utf8,
	"yaml":  "application/yaml",
	"yml":   "application/yaml",
	"toml":  "application/toml",
	"json":  "application/json",
	"map":   "application/json",
	"xhtml": "application/xhtml+xml",
	"rss":   "application/rss+xml",
	"atom":  "application/atom+xml",

	"webmanifest": "application/manifest+json",
	"jsonld":      "application/ld+json",
	"geojson":     "application/geo+json",

	"svg":  "image/svg+xml",
	"png":  "image/png",
	"apng": "image/apng",
	"jpg":  "image/jpeg",
	"jpeg": "image/jpeg",
	"gif":  "image/gif",
	"webp": "image/webp",
	"avif": "image/avif",
	"jxl":  "image/jxl",
	"ico":  "image/vnd.microsoft.icon",
	"bmp":  "image/bmp",
	"tif":  "image/tiff",
	"tiff": "image/tiff",

	"woff":  "font/woff",
	"woff2": "font/woff2",
	"ttf":   "font/ttf",
	"otf":   "font/otf",

	"mp3":  "audio/mpeg",
	"m4a":  "audio/mp4",
	"oga":  "audio/ogg",
	"ogg":  "audio/ogg",
	"opus": "audio/ogg",
	"wav":  "audio/wav",
	"flac": "audio/flac",
	"mp4":  "video/mp4",
	"m4v":  "video/mp4",
	"webm": "video/webm",
	"ogv":  "video/ogg",
	"mov":  "video/quicktime",
	"mpg":  "video/mpeg",
	"mpeg": "video/mpeg",
	"m3u8": "application/vnd.apple.mpegurl",
	"ts":   "video/mp2t",

	"pdf":  "application/pdf",
	"epub": "application/epub+zip",
	"rtf":  "application/rtf",
	"wasm": "application/wasm",
	"zip":  "application/zip",
	"gz":   "application/gzip",
	"tgz":  "application/gzip",
	"bz2":  "application/x-bzip2",
	"xz":   "application/x-xz",
	"zst":  "application/zstd",
	"7z":   "application/x-7z-compressed",
	"tar":  "application/x-tar",
	"jar":  "application/java-archive",
	"doc":  "application/msword",
	"xls":  "application/vnd.ms-excel",
	"ppt":  "application/vnd.ms-powerpoint",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"odt":  "application/vnd.oasis.opendocument.text",
	"ods":  "application/vnd.oasis.opendocument.spreadsheet",
	"odp":  "application/vnd.oasis.opendocument.presentation",
}
