//! A look over a footer before the library decodes it: it is in Thrift's compact form, in which a few bytes can announce
//! billions of elements or nest without end. What could not be true of so few bytes is refused. It knows nothing of
//! what the fields mean but of the tree of columns.

/// How deep structures may nest. A footer's own nest seven deep.
const DEPTH_MAX: u32 = 16;
/// How deep groups of columns may nest.
const GROUPS_DEPTH_MAX: usize = 64;
/// The field of a footer that holds the schema, and the field of a schema's element that counts its children.
const SCHEMA: i16 = 2;
const CHILDREN: i16 = 5;
/// The fields of a page's header that hold its sizes and what a page of each sort says of itself, and in that its
/// values' number.
const UNCOMPRESSED: i16 = 2;
const COMPRESSED: i16 = 3;
const DATA: i16 = 5;
const DICTIONARY: i16 = 7;
const DATA_V2: i16 = 8;
const VALUES: i16 = 1;

type Answer<T> = Result<T, &'static str>;

const SHORT: &str = "its footer ends too early";

/// Why a footer is not believed; nothing otherwise. Linear in its bytes.
pub(super) fn check(footer: &[u8]) -> Answer<()> {
    let mut walk = Walk { rest: footer, elements_left: footer.len(), open: vec![1] };
    let mut field = 0;
    while let Some(kind) = walk.field(&mut field)? {
        walk.value(kind, DEPTH_MAX, field == SCHEMA)?;
    }
    Ok(())
}

/// What a page's header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Its bytes when it is decompressed.
    pub(super) bytes: usize,
    /// How many values it announces.
    pub(super) values: usize,
    /// Whether these are a dictionary.
    pub(super) dictionary: bool,
    /// Where the next header is, from the beginning of this one.
    pub(super) next: usize,
}

/// The page whose header the bytes begin with.
pub(super) fn page(bytes: &[u8]) -> Answer<Page> {
    // There is no list in such a header.
    let mut walk = Walk { rest: bytes, elements_left: 0, open: Vec::new() };
    let (mut field, mut uncompressed, mut compressed, mut values, mut dictionary) = (0, None, None, Some(0), false);
    while let Some(kind) = walk.field(&mut field)? {
        match (field, kind) {
            (UNCOMPRESSED, 5) => uncompressed = Some(walk.number()?),
            (COMPRESSED, 5) => compressed = Some(walk.number()?),
            (DATA | DICTIONARY | DATA_V2, 12) => {
                dictionary |= field == DICTIONARY;
                let mut field = 0;
                while let Some(kind) = walk.field(&mut field)? {
                    match (field, kind) {
                        (VALUES, 5) => values = values.max(Some(walk.number()?)),
                        _ => walk.value(kind, DEPTH_MAX - 1, false)?,
                    }
                }
            }
            _ => walk.value(kind, DEPTH_MAX, false)?,
        }
    }
    let size = |zigzag: u64| usize::try_from(zigzag >> 1).ok().filter(|_| zigzag & 1 == 0);
    let sized = |zigzag: Option<u64>| zigzag.and_then(size).ok_or("a page of it has no size");
    let header = bytes.len() - walk.rest.len();
    Ok(Page {
        bytes: sized(uncompressed)?,
        values: values.and_then(size).unwrap_or(usize::MAX),
        dictionary,
        next: header.saturating_add(sized(compressed)?),
    })
}

struct Walk<'a> {
    rest: &'a [u8],
    /// Elements of lists that may still come: each takes a byte at least, as the form is meant.
    elements_left: usize,
    /// Children still to come in each open group of the schema.
    open: Vec<u64>,
}

impl Walk<'_> {
    fn byte(&mut self) -> Answer<u8> {
        let (first, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*first)
    }

    fn skip(&mut self, count: u64) -> Answer<()> {
        let count = usize::try_from(count).map_err(|_| SHORT)?;
        self.rest = self.rest.get(count..).ok_or(SHORT)?;
        Ok(())
    }

    fn number(&mut self) -> Answer<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number in its footer has no end")
    }

    /// The type of the next field, whose number replaces the last one's; none at the end of the structure.
    fn field(&mut self, number: &mut i16) -> Answer<Option<u8>> {
        let head = self.byte()?;
        if head & 0x0f == 0 {
            return Ok(None);
        }
        *number = match head >> 4 {
            0 => {
                let zigzag = self.number()?;
                (zigzag >> 1) as i16 ^ -((zigzag & 1) as i16)
            }
            delta => number.wrapping_add(i16::from(delta)),
        };
        Ok(Some(head & 0x0f))
    }

    fn elements(&mut self, count: u64) -> Answer<()> {
        let left = usize::try_from(count).ok().and_then(|count| self.elements_left.checked_sub(count));
        self.elements_left = left.ok_or("its footer announces more than it has room for")?;
        Ok(())
    }

    fn value(&mut self, kind: u8, depth: u32, schema: bool) -> Answer<()> {
        if depth == 0 {
            return Err("its footer nests too deep");
        }
        match kind {
            // A truth is in its field's head; inside a list it is one byte by the book, and none for some readers: the
            // count above bounds both.
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => self.list(depth, schema),
            11 => self.map(depth),
            12 => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.value(kind, depth - 1, false)?;
                }
                Ok(())
            }
            13 => self.skip(16),
            _ => Err("its footer holds a type that there is not"),
        }
    }

    fn list(&mut self, depth: u32, schema: bool) -> Answer<()> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
        self.elements(count)?;
        for _ in 0..count {
            if schema && head & 0x0f == 12 { self.column()? } else { self.value(head & 0x0f, depth - 1, false)? }
        }
        Ok(())
    }

    fn map(&mut self, depth: u32) -> Answer<()> {
        let count = self.number()?;
        if count == 0 {
            return Ok(());
        }
        self.elements(count)?;
        let kinds = self.byte()?;
        for _ in 0..count {
            self.value(kinds >> 4, depth - 1, false)?;
            self.value(kinds & 0x0f, depth - 1, false)?;
        }
        Ok(())
    }

    /// One element of the schema, which is a tree laid flat: a group before its children.
    fn column(&mut self) -> Answer<()> {
        let (mut field, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            if field == CHILDREN && (4..=6).contains(&kind) {
                children = self.number()? >> 1;
            } else {
                self.value(kind, DEPTH_MAX - 2, false)?;
            }
        }
        while let Some(0) = self.open.last() {
            self.open.pop();
        }
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            self.open.push(children);
        }
        if self.open.len() > GROUPS_DEPTH_MAX { Err("its columns nest too deep") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A footer whose only field is number 8, of that type and content.
    fn footer(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[0x80 | kind], content, &[0]].concat()
    }

    fn refused(footer: &[u8]) -> &'static str {
        check(footer).expect_err("is refused")
    }

    #[test]
    fn few_bytes_announce_no_more_than_they_hold() {
        assert_eq!(check(&footer(5, &[14])), Ok(()));
        assert_eq!(check(&footer(9, &[0x23, 1, 2])), Ok(()));
        let many = "its footer announces more than it has room for";
        // Two thousand million truths, each of no byte for some readers; alone, in lists of lists, and in a map.
        assert_eq!(refused(&footer(9, &[0xf1, 0xff, 0xff, 0xff, 0xff, 7])), many);
        let inner: Vec<u8> = [0xf1, 0x40].repeat(100);
        assert_eq!(refused(&footer(9, &[&[0xf9, 100][..], &inner].concat())), many);
        assert_eq!(refused(&footer(11, &[0xff, 0xff, 0xff, 0xff, 7, 0x11])), many);
        // As many row groups as no file has.
        assert_eq!(refused(&[0x49, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0]), many);
    }

    #[test]
    fn a_page_tells_its_sizes() {
        // Its type, 300 bytes decompressed, 7 as they stand, and a structure with a count and an encoding.
        let header = [0x15, 0, 0x15, 0xd8, 4, 0x15, 14, 0x2c, 0x15, 2, 0x15, 0, 0, 0];
        let page_of = |values, dictionary| Ok(Page { bytes: 300, values, dictionary, next: header.len() + 7 });
        assert_eq!(page(&[&header[..], &[9; 20]].concat()), page_of(1, false));
        // The same as a dictionary of one value, and of fewer than none.
        let dictionary = |values: u8| [&header[..7], &[0x4c, 0x15, values, 0x15, 0, 0, 0]].concat();
        assert_eq!(page(&dictionary(2)), page_of(1, true));
        assert_eq!(page(&dictionary(1)), page_of(usize::MAX, true));
        assert_eq!(page(&header[..header.len() - 1]), Err(SHORT));
        assert_eq!(page(&[0]), Err("a page of it has no size"));
        assert_eq!(page(&[0x15, 0, 0x15, 1, 0x15, 14, 0]), Err("a page of it has no size"));
        assert_eq!(page(&[0x19, 0x15, 2, 0]), Err("its footer announces more than it has room for"));
    }

    #[test]
    fn nesting_has_an_end() {
        assert_eq!(refused(&footer(12, &[0x1c; 40])), "its footer nests too deep");
        assert_eq!(refused(&footer(9, &[0x19; 40])), "its footer nests too deep");
        // Groups of one group each.
        let group: Vec<u8> = [0x55, 2, 0].repeat(100);
        assert_eq!(refused(&[&[0x29, 0xfc, 100][..], &group, &[0]].concat()), "its columns nest too deep");
        let flat: Vec<u8> = [&[0x55, 0xc6, 1, 0][..], &[0x15, 2, 0].repeat(99)].concat();
        assert_eq!(check(&[&[0x29, 0xfc, 100][..], &flat, &[0]].concat()), Ok(()));
    }

    #[test]
    fn every_cut_is_too_short() {
        let whole = footer(12, &[0x18, 3, b'a', b'b', b'c', 0x17, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
        assert_eq!(check(&whole), Ok(()));
        for end in 0..whole.len() {
            assert_eq!(check(&whole[..end]), Err(SHORT), "{end}");
        }
        assert_eq!(refused(&footer(14, &[])), "its footer holds a type that there is not");
        assert_eq!(refused(&footer(5, &[0x80; 12])), "a number in its footer has no end");
    }
}
