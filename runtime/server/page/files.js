// The files a person chooses: dropped, picked, a folder of them, or a folder that is watched.

const SUFFIXES = /\.(png|jpe?g|tiff?|bmp|dcm|dicom|ima)$/i;
const NOT_PICTURES = /^(\.|dicomdir$|thumbs\.db$)/i;
// How often a watched folder is looked at, in milliseconds.
const LOOK = 2000;

// Scanners often give a DICOM file no suffix, or one that is a part of its number.
const looksLikePicture = (name) => !NOT_PICTURES.test(name) && (SUFFIXES.test(name) || !/\.[a-z]\w*$/i.test(name));
const naturally = new Intl.Collator(undefined, { numeric: true });

/** The pictures of a folder, in the order of their names. */
export function picturesOf(files) {
  return [...files].filter((file) => looksLikePicture(file.name))
    .sort((a, b) => naturally.compare(a.webkitRelativePath || a.name, b.webkitRelativePath || b.name));
}

/** What was dropped: the files as they are, and the pictures of folders. */
export async function droppedFiles(transfer) {
  // Both are gone after the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry.isDirectory)) return files;
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return picturesOf(found);
}

async function walk(entry, found) {
  if (entry.isFile) {
    found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  // It gives at most a hundred a time.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await walk(each, found);
  }
}

/**
 * Look into a folder again and again.
 *
 * Tells of the pictures in it at the start, then of each that is new once it has stopped growing. Ends, telling so,
 * when the folder can no longer be read. Returns a way to stop.
 *
 * https://developer.mozilla.org/en-US/docs/Web/API/FileSystemDirectoryHandle
 */
export function watchFolder(folder, { atStart, arrived, lost }) {
  const known = new Set();
  let growing = new Map();
  let first = true;
  let stopped = false;
  const look = async () => {
    const fresh = [];
    const sizes = new Map();
    try {
      for await (const handle of folder.values()) {
        if (handle.kind !== "file" || known.has(handle.name) || !looksLikePicture(handle.name)) continue;
        const file = await handle.getFile().catch(() => null); // it is being written, or was just taken away
        if (!file) continue;
        sizes.set(file.name, file.size);
        if (first || (file.size && growing.get(file.name) === file.size)) fresh.push(file);
      }
    } catch {
      if (!stopped) lost();
      return;
    }
    if (stopped) return;
    growing = sizes;
    for (const file of fresh) known.add(file.name);
    if (first) atStart(picturesOf(fresh));
    else if (fresh.length) arrived(picturesOf(fresh));
    first = false;
    setTimeout(look, LOOK);
  };
  look();
  return () => { stopped = true; };
}
