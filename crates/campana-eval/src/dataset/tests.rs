use std::fs;

use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");

/// The size of the pictures `grey.png` and `palette.png` in rows and columns.
const GOLDEN_SIZE: [usize; 2] = [35, 45];

fn settings() -> Preprocessing {
    Preprocessing::new(GOLDEN_SIZE, [0.0; 3], [1.0; 3])
}

/// A folder with copies of a small picture at the given paths and text at the others.
fn folder(pictures: &[&str], texts: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let picture = fs::read(Path::new(GOLDEN).join("grey.png")).unwrap();
    for name in pictures {
        write(name, &picture);
    }
    for (name, text) in texts {
        write(name, text.as_bytes());
    }
    folder
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn contents(dataset: &Dataset) -> Vec<(String, Option<usize>)> {
    (0..dataset.len())
        .map(|index| (dataset.image_name(index), dataset.label(index)))
        .collect()
}

fn expect_error(result: Result<Dataset, Error>, kind: ErrorKind, part: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

mod cifar {
    use super::*;

    /// Records whose labels count up and whose samples hash their position.
    fn records(count: usize, label_bytes: usize, classes: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in 0..count {
            if label_bytes == 2 {
                bytes.push((record % 20) as u8);
            }
            bytes.push((record % classes) as u8);
            bytes.extend(
                (0..3072u32).map(|i| ((i ^ record as u32).wrapping_mul(2_654_435_761) >> 24) as u8),
            );
        }
        bytes
    }

    fn open(bytes: Vec<u8>, options: &DatasetOptions<'_>) -> Result<Dataset, Error> {
        Dataset::from_cifar_bytes(bytes, "test.bin", options)
    }

    #[test]
    fn the_size_tells_10_from_100() {
        let ten = open(records(3, 1, 10), &DatasetOptions::default()).unwrap();
        assert_eq!(ten.format(), DatasetFormat::Cifar10);
        assert_eq!(ten.len(), 3);
        assert_eq!(ten.label(2), Some(2));
        let hundred = open(records(50, 2, 100), &DatasetOptions::default()).unwrap();
        assert_eq!(hundred.format(), DatasetFormat::Cifar100);
        assert_eq!(hundred.label(42), Some(42));
        assert_eq!(hundred.image_name(42), "record 42");
    }

    #[test]
    fn where_both_sizes_divide_the_labels_tell() {
        // 3073 x 3074 bytes are 3074 records of one kind and 3073 of the other.
        let ten = open(records(3074, 1, 10), &DatasetOptions::default()).unwrap();
        assert_eq!(ten.format(), DatasetFormat::Cifar10);
        let hundred = open(records(3073, 2, 100), &DatasetOptions::default()).unwrap();
        assert_eq!(hundred.format(), DatasetFormat::Cifar100);
    }

    #[test]
    fn where_nothing_tells_the_format_must_be_given() {
        let black = vec![0; 3073 * 3074];
        expect_error(
            open(black.clone(), &DatasetOptions::default()),
            ErrorKind::Malformed,
            "give the format",
        );
        let options = DatasetOptions {
            format: Some(DatasetFormat::Cifar100),
            ..Default::default()
        };
        assert_eq!(open(black, &options).unwrap().len(), 3073);
    }

    #[test]
    fn planes_become_pixels() {
        let mut bytes = vec![0; 3073];
        bytes[1 + 33] = 10;
        bytes[1 + 1024 + 33] = 20;
        bytes[1 + 2048 + 33] = 30;
        let dataset = open(bytes, &DatasetOptions::default()).unwrap();
        let image = dataset.image(0).unwrap();
        assert_eq!(image.pixels()[33 * 3..34 * 3], [10, 20, 30]);
        let settings = Preprocessing::new([32, 32], [0.0; 3], [1.0; 3]);
        let input = dataset.decode(0, &settings).unwrap();
        assert_eq!(input[1024 + 33], 20.0 / 255.0);
    }

    #[test]
    fn no_whole_number_of_records_is_an_error() {
        let mut bytes = records(2, 1, 10);
        bytes.pop();
        expect_error(
            open(bytes, &DatasetOptions::default()),
            ErrorKind::Malformed,
            "records of 3073 (CIFAR-10) or 3074 bytes (CIFAR-100), found 6145 bytes",
        );
        let options = DatasetOptions {
            format: Some(DatasetFormat::Cifar100),
            ..Default::default()
        };
        expect_error(
            open(records(2, 1, 10), &options),
            ErrorKind::Malformed,
            "records of 3074 bytes (CIFAR-100 binary), found 6146 bytes",
        );
    }

    #[test]
    fn an_empty_file_is_an_error() {
        expect_error(
            open(Vec::new(), &DatasetOptions::default()),
            ErrorKind::Malformed,
            "found an empty file",
        );
    }

    #[test]
    fn labels_are_checked_against_the_classes() {
        expect_error(
            open(records(12, 1, 12), &DatasetOptions::default()),
            ErrorKind::Malformed,
            "record 10 has label 10, expected a label below 10",
        );
        let more = DatasetOptions {
            class_count: Some(12),
            ..Default::default()
        };
        let dataset = open(records(12, 1, 12), &more).unwrap();
        assert!(dataset.check_labels(12).is_ok());
        let error = dataset.check_labels(5).unwrap_err();
        assert!(
            error.to_string().contains("record 5 has label 5"),
            "{error}"
        );
    }
}

mod folders {
    use super::*;

    #[test]
    fn labels_tsv_gives_path_and_class() {
        let header = "path\tclass_index\twnid\tname\n";
        let folder = folder(
            &["a/1.png", "b/2.png"],
            &[(
                "labels.tsv",
                &format!("{header}b/2.png\t7\tn1\tx\r\n\na/1.png\t0\tn0\ty\n"),
            )],
        );
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.format(), DatasetFormat::LabelsTsv);
        assert_eq!(
            contents(&dataset),
            [
                ("b/2.png".to_owned(), Some(7)),
                ("a/1.png".to_owned(), Some(0))
            ]
        );
        assert!(dataset.decode(0, &settings()).is_ok());
    }

    #[test]
    fn labels_tsv_without_header_is_path_and_index() {
        let folder = folder(&["1.png"], &[("labels.tsv", "1.png\t3")]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(contents(&dataset), [("1.png".to_owned(), Some(3))]);
    }

    #[test]
    fn labels_tsv_with_names_needs_the_models_classes() {
        let folder = folder(
            &["1.png"],
            &[("labels.tsv", "name\tpath\nGreat Shark\t1.png\n")],
        );
        expect_error(
            Dataset::open(folder.path()),
            ErrorKind::Malformed,
            "found the columns name, path",
        );
        let classes = names(&["tench", "great_shark"]);
        let options = DatasetOptions {
            class_names: &classes,
            ..Default::default()
        };
        let dataset = Dataset::open_with(folder.path(), &options).unwrap();
        assert_eq!(contents(&dataset), [("1.png".to_owned(), Some(1))]);
    }

    #[test]
    fn broken_lines_of_labels_tsv_are_named() {
        let cases = [
            (
                "path\tclass_index\n1.png\n",
                "line 2: expected a class index",
            ),
            (
                "path\tclass_index\n1.png\t-1\n",
                "line 2: expected a class index",
            ),
            ("path\tclass_index\n\n\t4\n", "line 3: expected the path"),
            ("path\tclass_index\n1.png\t10\n", "line 2 has label 10"),
            (
                "path\tclass_index\n../1.png\t1\n",
                "line 2: expected a path within the folder",
            ),
            (
                "path\tclass_index\n/etc/1.png\t1\n",
                "line 2: expected a path within the folder",
            ),
            ("path\tclass_index\n", "found none"),
            ("", "found none"),
        ];
        for (text, part) in cases {
            let folder = folder(&["1.png"], &[("labels.tsv", text)]);
            let options = DatasetOptions {
                class_count: Some(10),
                ..Default::default()
            };
            let dataset = Dataset::open_with(folder.path(), &options);
            expect_error(dataset, ErrorKind::Malformed, part);
        }
    }

    #[test]
    fn class_folders_are_matched_by_name_in_any_spelling() {
        let folder = folder(&["White-Wolf/1.PNG", "cat/2.png", "cat/more/3.png"], &[]);
        let classes = names(&["dog", "cat", "white wolf"]);
        let options = DatasetOptions {
            class_names: &classes,
            ..Default::default()
        };
        let dataset = Dataset::open_with(folder.path(), &options).unwrap();
        assert_eq!(dataset.format(), DatasetFormat::ClassFolders);
        assert_eq!(
            contents(&dataset),
            [
                ("White-Wolf/1.PNG".to_owned(), Some(2)),
                ("cat/2.png".to_owned(), Some(1)),
                ("cat/more/3.png".to_owned(), Some(1)),
            ]
        );
    }

    #[test]
    fn class_folders_are_matched_by_number() {
        let folder = folder(&["2/1.png", "10/2.png"], &[]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(
            contents(&dataset),
            [
                ("10/2.png".to_owned(), Some(10)),
                ("2/1.png".to_owned(), Some(2))
            ]
        );
        let options = DatasetOptions {
            class_count: Some(10),
            ..Default::default()
        };
        expect_error(
            Dataset::open_with(folder.path(), &options),
            ErrorKind::Malformed,
            "folder 10 has label 10",
        );
    }

    #[test]
    fn class_folders_are_matched_by_order_only_when_all_are_there() {
        let folder = folder(&["n01/1.png", "n02/2.png"], &[("notes/x.txt", "")]);
        let count = |class_count| DatasetOptions {
            class_count: Some(class_count),
            ..Default::default()
        };
        let dataset = Dataset::open_with(folder.path(), &count(2)).unwrap();
        assert_eq!(
            contents(&dataset),
            [
                ("n01/1.png".to_owned(), Some(0)),
                ("n02/2.png".to_owned(), Some(1))
            ]
        );
        expect_error(
            Dataset::open_with(folder.path(), &count(1000)),
            ErrorKind::Malformed,
            "expected a folder for each of 1000 classes",
        );
    }

    #[test]
    fn a_name_of_two_classes_is_ambiguous() {
        let folder = folder(&["crane/1.png"], &[]);
        let classes = names(&["crane", "dog", "crane"]);
        let options = DatasetOptions {
            class_names: &classes,
            ..Default::default()
        };
        expect_error(
            Dataset::open_with(folder.path(), &options),
            ErrorKind::Malformed,
            "found \"crane\", the name of several",
        );
    }

    #[test]
    fn pictures_without_folders_have_no_labels() {
        let folder = folder(&["b.png", "a.jpeg", ".hidden.png"], &[("notes.txt", "")]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.format(), DatasetFormat::Unlabelled);
        assert!(!dataset.has_labels());
        assert_eq!(
            contents(&dataset),
            [("a.jpeg".to_owned(), None), ("b.png".to_owned(), None)]
        );
        let single = Dataset::open(&folder.path().join("b.png")).unwrap();
        assert_eq!(single.len(), 1);
        assert!(single.decode(0, &settings()).is_ok());
    }

    #[test]
    fn a_given_format_is_not_recognized_again() {
        let folder = folder(&["0/a.png"], &[("labels.tsv", "garbage")]);
        let given = |format| DatasetOptions {
            format: Some(format),
            ..Default::default()
        };
        let classes = given(DatasetFormat::ClassFolders);
        let dataset = Dataset::open_with(folder.path(), &classes).unwrap();
        assert_eq!(dataset.label(0), Some(0));
        let unlabelled = given(DatasetFormat::Unlabelled);
        let dataset = Dataset::open_with(folder.path(), &unlabelled).unwrap();
        assert_eq!(contents(&dataset), [("0/a.png".to_owned(), None)]);
        let cifar = given(DatasetFormat::Cifar10);
        expect_error(
            Dataset::open_with(folder.path(), &cifar),
            ErrorKind::Malformed,
            "expected a file (CIFAR-10 binary), found a folder",
        );
        expect_error(
            Dataset::open_with(&folder.path().join("labels.tsv"), &classes),
            ErrorKind::Malformed,
            "expected a folder (class folders), found a file",
        );
    }

    #[test]
    fn a_folder_without_pictures_is_an_error() {
        let folder = folder(&[], &[("notes.txt", "")]);
        expect_error(
            Dataset::open(folder.path()),
            ErrorKind::Malformed,
            "expected JPEG or PNG files",
        );
    }

    #[test]
    fn a_missing_path_is_an_io_error() {
        expect_error(
            Dataset::open(Path::new("no/such/folder")),
            ErrorKind::Io,
            "cannot read no/such/folder",
        );
    }
}

mod batches {
    use super::*;

    fn mixed_folder() -> TempDir {
        let folder = folder(
            &["0.png", "2.png", "3.png", "6.png"],
            &[("1.png", ""), ("5.jpg", "x")],
        );
        let palette = Path::new(GOLDEN).join("palette.png");
        fs::copy(palette, folder.path().join("4.png")).unwrap();
        folder
    }

    fn options(batch: usize, threads: usize) -> BatchOptions {
        BatchOptions {
            batch,
            threads,
            ..Default::default()
        }
    }

    #[test]
    fn batches_equal_single_pictures_for_any_number_of_threads() {
        let folder = mixed_folder();
        let dataset = Dataset::open(folder.path()).unwrap();
        let settings = settings();
        for threads in [1, 2, 5] {
            for batch_len in [1, 2, 3, 100] {
                let batches = dataset
                    .batches(&settings, &options(batch_len, threads))
                    .unwrap();
                assert_eq!(batches.image_count(), 7);
                let mut indices = Vec::new();
                let mut failed = Vec::new();
                for batch in batches {
                    let batch = batch.unwrap();
                    assert_eq!(batch.input.len(), batch.len() * settings.input_len());
                    assert_eq!(batch.labels.len(), batch.len());
                    let inputs = batch.input.chunks(settings.input_len());
                    for (index, input) in batch.indices.iter().zip(inputs) {
                        assert_eq!(input, dataset.decode(*index, &settings).unwrap());
                    }
                    indices.extend(batch.indices);
                    failed.extend(batch.failures.into_iter().map(|failure| failure.name));
                }
                assert_eq!(indices, [0, 2, 3, 4, 6]);
                assert_eq!(failed, ["1.png", "5.jpg"]);
            }
        }
    }

    #[test]
    fn a_limit_takes_the_first_or_spreads() {
        let folder = mixed_folder();
        let dataset = Dataset::open(folder.path()).unwrap();
        let taken = |selection| {
            let options = BatchOptions {
                limit: Some(3),
                selection,
                ..options(2, 2)
            };
            let batches = dataset.batches(&settings(), &options).unwrap();
            batches
                .flat_map(|batch| {
                    let batch = batch.unwrap();
                    let failed = batch.failures.iter().map(|failure| failure.index);
                    batch
                        .indices
                        .iter()
                        .copied()
                        .chain(failed)
                        .collect::<Vec<_>>()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(taken(Selection::First), [0, 1, 2]);
        assert_eq!(taken(Selection::Spread), [0, 2, 4]);
    }

    #[test]
    fn a_size_that_does_not_fit_ends_the_iteration() {
        let folder = mixed_folder();
        fs::copy(
            Path::new(GOLDEN).join("scene.png"),
            folder.path().join("3.png"),
        )
        .unwrap();
        let dataset = Dataset::open(folder.path()).unwrap();
        let mut batches = dataset.batches(&settings(), &options(2, 2)).unwrap();
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        assert!(
            error.to_string().contains("image 3.png: expected 45 x 35"),
            "{error}"
        );
        assert!(batches.next().is_none());
    }

    #[test]
    fn dropping_early_stops_the_threads() {
        let bytes = vec![0; 3073 * 500];
        let dataset = Dataset::from_cifar_bytes(bytes, "x", &DatasetOptions::default()).unwrap();
        let settings = Preprocessing::new([32, 32], [0.0; 3], [1.0; 3]);
        let mut batches = dataset.batches(&settings, &options(1, 3)).unwrap();
        assert!(batches.next().is_some());
        drop(batches);
        assert_eq!(Arc::strong_count(&dataset.content), 1);
    }

    #[test]
    fn zero_counts_are_refused() {
        let folder = mixed_folder();
        let dataset = Dataset::open(folder.path()).unwrap();
        let no_limit = BatchOptions {
            limit: Some(0),
            ..options(1, 1)
        };
        for (name, options) in [
            ("batch", options(0, 1)),
            ("threads", options(1, 0)),
            ("limit", no_limit),
        ] {
            let error = dataset.batches(&settings(), &options).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{name}: expected at least 1, found 0")
            );
        }
    }
}
