/** The group of all VMM processes: they read images and saved states through it, and can write nothing by it. */
export const vmmGid = 200_000;
