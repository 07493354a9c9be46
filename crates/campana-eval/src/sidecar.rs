//! The description of a model's input and classes that lies beside the model.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::input_file;
use crate::preprocess::{ChannelOrder, Interpolation, Layout, Preprocessing, Resize};

/// Bytes of a sidecar at most: a thousand times those of ImageNet's labels.
const MAX_LEN: usize = 16 << 20;

/// What `MODEL.json` beside `MODEL.onnx` says.
///
/// ```
/// use campana_eval::Sidecar;
///
/// let text = r#"{
///     "input": {
///         "size": [224, 224], "resize_short": 256, "crop": 224,
///         "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
///         "channels": "RGB", "layout": "NCHW", "interpolation": "bilinear"
///     },
///     "labels": ["tench", "goldfish"]
/// }"#;
/// let sidecar = Sidecar::parse(text, "model.json")?;
/// assert_eq!(sidecar.preprocessing.size, [224, 224]);
/// assert_eq!(sidecar.labels[1], "goldfish");
/// # Ok::<(), campana_eval::Error>(())
/// ```
///
/// `size` (rows, columns, or one number for both), `mean` and `std` are needed; a guess would cost
/// accuracy silently. The others may be absent or `null`:
///
/// | key | when absent |
/// | --- | --- |
/// | `resize_short` (of the shorter side) or `resize` (rows, columns, whatever the proportions) | no resize: pictures must have `size`, or be cut to it where `crop` is set |
/// | `crop` | with a resize, `size`; otherwise no crop |
/// | `channels` (`RGB`, `BGR` or `grey`) | `RGB` |
/// | `layout` (`NCHW` or `NHWC`) | `NCHW` |
/// | `interpolation` (`bilinear` or `bicubic`) | `bilinear` |
/// | `labels` | classes have no names |
///
/// Other keys are ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// What the model expects of its input.
    pub preprocessing: Preprocessing,
    /// The names of the classes by index; empty when the sidecar has none.
    pub labels: Vec<String>,
}

impl Sidecar {
    /// Where the sidecar of a model lies: its path with the extension `json`.
    #[must_use]
    pub fn path_of(model: &Path) -> PathBuf {
        model.with_extension("json")
    }

    /// Reads the sidecar of a model, `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// As [`Sidecar::read`].
    pub fn beside(model: &Path) -> Result<Option<Self>, Error> {
        let path = Self::path_of(model);
        if path.try_exists().unwrap_or(true) {
            Self::read(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, otherwise as [`Sidecar::parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(&Self::text(path)?, &path.display().to_string())
    }

    /// The text of a sidecar's file.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, is no text or too long for a sidecar.
    pub fn text(path: &Path) -> Result<String, Error> {
        input_file::read_text(path, MAX_LEN)
    }

    /// Understands the text of a sidecar; `file` stands in the errors.
    ///
    /// # Errors
    ///
    /// [`Error::SidecarSyntax`] if the text is not JSON, [`Error::SidecarKey`] if a key is missing
    /// or holds something else than it must.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let root: Value = serde_json::from_str(text).map_err(|source| Error::SidecarSyntax {
            file: file.to_owned(),
            source,
        })?;
        let root = Keys::new(&root, file, "")?;
        let input = root.need("input", "an object with size, mean and std")?;
        let input = Keys::new(input, file, "input.")?;

        let channels = input
            .choice("channels", "\"RGB\", \"BGR\" or \"grey\"", &CHANNELS)?
            .unwrap_or_default();
        let mut preprocessing = Preprocessing::new(
            input
                .size("size")?
                .ok_or_else(|| input.missing("size", SIZE))?,
            input.for_channels("mean", channels)?,
            input.for_channels("std", channels)?,
        );
        preprocessing.channels = channels;
        preprocessing.resize = input.resize()?;
        preprocessing.crop = input.size("crop")?;
        preprocessing.layout = input
            .choice(
                "layout",
                "\"NCHW\" or \"NHWC\"",
                &[("NCHW", Layout::Nchw), ("NHWC", Layout::Nhwc)],
            )?
            .unwrap_or_default();
        preprocessing.interpolation = input
            .choice(
                "interpolation",
                "\"bilinear\" or \"bicubic\"",
                &[
                    ("bilinear", Interpolation::Bilinear),
                    ("bicubic", Interpolation::Bicubic),
                ],
            )?
            .unwrap_or_default();
        preprocessing.check().map_err(|error| match error {
            Error::Argument {
                name,
                expected,
                found,
            } => Error::SidecarKey {
                file: file.to_owned(),
                key: format!("input.{name}"),
                expected,
                found,
            },
            other => other,
        })?;
        Ok(Self {
            preprocessing,
            labels: root.strings("labels")?,
        })
    }
}

const CHANNELS: [(&str, ChannelOrder); 4] = [
    ("RGB", ChannelOrder::Rgb),
    ("BGR", ChannelOrder::Bgr),
    ("grey", ChannelOrder::Grey),
    ("gray", ChannelOrder::Grey),
];

const SIZE: &str = "two numbers [H, W], or one number for both";

/// The keys of one object of the file, by which its errors are named.
struct Keys<'a> {
    object: &'a Map<String, Value>,
    file: &'a str,
    prefix: &'static str,
}

impl<'a> Keys<'a> {
    fn new(value: &'a Value, file: &'a str, prefix: &'static str) -> Result<Self, Error> {
        let object = value.as_object().ok_or_else(|| Error::SidecarKey {
            file: file.to_owned(),
            key: match prefix.trim_end_matches('.') {
                "" => "(the file)".to_owned(),
                key => key.to_owned(),
            },
            expected: "an object".to_owned(),
            found: describe(value),
        })?;
        Ok(Self {
            object,
            file,
            prefix,
        })
    }

    fn find(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn need(&self, key: &str, expected: &str) -> Result<&'a Value, Error> {
        self.find(key).ok_or_else(|| self.missing(key, expected))
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        self.error(key, expected, "nothing".to_owned())
    }

    fn wrong(&self, key: &str, expected: &str, value: &Value) -> Error {
        self.error(key, expected, describe(value))
    }

    fn error(&self, key: &str, expected: &str, found: String) -> Error {
        Error::SidecarKey {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.prefix),
            expected: expected.to_owned(),
            found,
        }
    }

    fn integer(&self, key: &str) -> Result<Option<usize>, Error> {
        self.find(key)
            .map(|value| {
                as_usize(value)
                    .ok_or_else(|| self.wrong(key, "a whole number of pixels, above 0", value))
            })
            .transpose()
    }

    fn size(&self, key: &str) -> Result<Option<[usize; 2]>, Error> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let size = match value.as_array().map(Vec::as_slice) {
            None => as_usize(value).map(|side| [side, side]),
            Some([height, width]) => as_usize(height)
                .zip(as_usize(width))
                .map(<[usize; 2]>::from),
            Some(_) => None,
        };
        size.map(Some).ok_or_else(|| self.wrong(key, SIZE, value))
    }

    fn resize(&self) -> Result<Resize, Error> {
        let short = self.integer("resize_short")?;
        let exact = self.size("resize")?;
        match (short, exact) {
            (Some(_), Some(_)) => {
                Err(self.error("resize", "this or resize_short", "both".to_owned()))
            }
            (Some(short), None) => Ok(Resize::Short(short)),
            (None, Some(size)) => Ok(Resize::Exact(size)),
            (None, None) => Ok(Resize::None),
        }
    }

    /// A number for each channel; of a grey input the number itself or a list of one.
    fn for_channels(&self, key: &str, channels: ChannelOrder) -> Result<[f32; 3], Error> {
        let expected = match channels {
            ChannelOrder::Grey => "a number on the 0-1 scale",
            ChannelOrder::Rgb | ChannelOrder::Bgr => {
                "three numbers on the 0-1 scale, one for each channel"
            }
        };
        let value = self.need(key, expected)?;
        let items = value
            .as_array()
            .map_or(std::slice::from_ref(value), Vec::as_slice);
        let numbers: Option<Vec<f32>> = items
            .iter()
            .map(|item| item.as_f64().map(|x| x as f32))
            .collect();
        let found = match (channels, numbers.as_deref()) {
            (ChannelOrder::Grey, Some(&[number])) => Some([number; 3]),
            (ChannelOrder::Rgb | ChannelOrder::Bgr, Some(&[first, second, third])) => {
                Some([first, second, third])
            }
            _ => None,
        };
        found.ok_or_else(|| self.wrong(key, expected, value))
    }

    fn choice<T: Copy>(
        &self,
        key: &str,
        expected: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        let chosen = value.as_str().and_then(|text| {
            choices
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
        });
        chosen
            .map(|(_, choice)| Some(*choice))
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        let Some(value) = self.find(key) else {
            return Ok(Vec::new());
        };
        value
            .as_array()
            .and_then(|items| {
                items
                    .iter()
                    .map(|item| item.as_str().map(str::to_owned))
                    .collect()
            })
            .ok_or_else(|| self.wrong(key, "a list of strings, one for each class", value))
    }
}

/// A whole number, also where it is written as `224.0`.
fn as_usize(value: &Value) -> Option<usize> {
    let number = value.as_f64()?;
    (number > 0.0 && number.fract() == 0.0 && number <= f64::from(u32::MAX))
        .then_some(number as usize)
}

fn describe(value: &Value) -> String {
    const MAX_CHARS: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MAX_CHARS {
        text
    } else {
        let head: String = text.chars().take(MAX_CHARS).collect();
        format!("{head}...")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const FULL: &str = r#"{
        "input": {"size": [224, 192], "resize_short": 256, "crop": [224, 192],
                  "mean": [0.1, 0.2, 0.3], "std": [1, 2.5, 3], "channels": "BGR",
                  "layout": "NHWC", "interpolation": "bicubic", "extra": 1},
        "labels": ["cat", "dog"], "licence": "MIT"
    }"#;

    #[test]
    fn every_key_is_read() {
        let sidecar = Sidecar::parse(FULL, "m.json").unwrap();
        assert_eq!(
            sidecar,
            Sidecar {
                preprocessing: Preprocessing {
                    size: [224, 192],
                    resize: Resize::Short(256),
                    crop: Some([224, 192]),
                    mean: [0.1, 0.2, 0.3],
                    std: [1.0, 2.5, 3.0],
                    channels: ChannelOrder::Bgr,
                    layout: Layout::Nhwc,
                    interpolation: Interpolation::Bicubic,
                },
                labels: vec!["cat".to_owned(), "dog".to_owned()],
            }
        );
    }

    #[test]
    fn grey_inputs_have_one_mean() {
        let text = |mean: &str| {
            format!(
                r#"{{"input": {{"size": 28, "resize": [30, 28], "mean": {mean}, "std": [0.3], "channels": "grey"}}}}"#
            )
        };
        let settings = Sidecar::parse(&text("0.1"), "m.json")
            .unwrap()
            .preprocessing;
        assert_eq!(settings.input_shape(2), [2, 1, 28, 28]);
        assert_eq!(settings.resize, Resize::Exact([30, 28]));
        assert_eq!((settings.mean[0], settings.std[0]), (0.1, 0.3));
        let error = Sidecar::parse(&text("[1, 2, 3]"), "m.json").unwrap_err();
        assert!(
            error
                .to_string()
                .contains("expected a number on the 0-1 scale"),
            "{error}"
        );
    }

    #[test]
    fn one_resize_is_enough() {
        let text = r#"{"input": {"size": 8, "resize": 9, "resize_short": 9, "mean": [0, 0, 0], "std": [1, 1, 1]}}"#;
        let error = Sidecar::parse(text, "m.json").unwrap_err().to_string();
        assert!(
            error.contains("input.resize") && error.contains("found both"),
            "{error}"
        );
    }

    #[test]
    fn optional_keys_have_their_defaults() {
        let text = r#"{"input": {"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1], "crop": null}}"#;
        let sidecar = Sidecar::parse(text, "m.json").unwrap();
        let expected = Preprocessing::new([32, 32], [0.0; 3], [1.0; 3]);
        assert_eq!(sidecar.preprocessing, expected);
        assert!(sidecar.labels.is_empty());
    }

    #[test]
    fn errors_name_the_file_the_key_and_what_is_expected() {
        struct Case {
            replace: (&'static str, &'static str),
            key: &'static str,
            found: &'static str,
        }
        let case = |from, to, key, found| Case {
            replace: (from, to),
            key,
            found,
        };
        let cases = [
            case("\"input\"", "\"inputs\"", "input", "found nothing"),
            case("\"size\"", "\"sizes\"", "input.size", "found nothing"),
            case("\"mean\"", "\"means\"", "input.mean", "found nothing"),
            case("\"std\"", "\"dev\"", "input.std", "found nothing"),
            case(
                "[0.1, 0.2, 0.3]",
                "[0.1, 0.2]",
                "input.mean",
                "found [0.1,0.2]",
            ),
            case("[1, 2.5, 3]", "\"x\"", "input.std", "found \"x\""),
            case(
                "[1, 2.5, 3]",
                "[1, 0, 1]",
                "input.std",
                "found [1.0, 0.0, 1.0]",
            ),
            case(
                "\"crop\": [224, 192]",
                "\"crop\": 9",
                "input.crop",
                "found [9, 9]",
            ),
            case(
                "\"size\": [224, 192], \"resize_short\": 256, \"crop\": [224, 192]",
                "\"size\": 65535",
                "input.size",
                "found [65535, 65535]",
            ),
            case("256", "-1", "input.resize_short", "found -1"),
            case("256", "100", "input.resize_short", "found 100"),
            case("256", "2.5", "input.resize_short", "found 2.5"),
            case(
                "\"BGR\"",
                "\"GBR\"",
                "input.channels",
                "expected \"RGB\", \"BGR\" or \"grey\"",
            ),
            case(
                "\"NHWC\"",
                "7",
                "input.layout",
                "expected \"NCHW\" or \"NHWC\"",
            ),
            case(
                "bicubic",
                "lanczos",
                "input.interpolation",
                "found \"lanczos\"",
            ),
            case("\"dog\"", "3", "labels", "expected a list of strings"),
        ];
        for Case {
            replace: (from, to),
            key,
            found,
        } in cases
        {
            let text = FULL.replace(from, to);
            assert_ne!(text, FULL, "{from}");
            let error = Sidecar::parse(&text, "m.json").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
            let message = error.to_string();
            assert!(
                message.starts_with(&format!("m.json: key \"{key}\": expected ")),
                "{message}"
            );
            assert!(message.contains(found), "{message}");
        }
    }

    #[test]
    fn what_is_not_json_or_no_object_is_an_error() {
        let error = Sidecar::parse("{\"input\": ", "m.json").unwrap_err();
        assert!(matches!(error, Error::SidecarSyntax { .. }));
        let error = Sidecar::parse("[1]", "m.json").unwrap_err();
        assert!(error.to_string().contains("expected an object"), "{error}");
    }

    #[test]
    fn a_model_without_a_sidecar_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("net.onnx");
        assert_eq!(Sidecar::beside(&model).unwrap(), None);
        std::fs::write(folder.path().join("net.json"), FULL).unwrap();
        assert!(Sidecar::beside(&model).unwrap().is_some());
    }
}
