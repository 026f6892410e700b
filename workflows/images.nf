// The images of a run: whether each SIF is the one that its record knows.

include { read_json } from './json'

def sha256(path) {
    def digest = java.security.MessageDigest.getInstance('SHA-256')
    path.eachByte(1 << 20) { buffer, count -> digest.update(buffer, 0, count) }
    return digest.digest().encodeHex().toString()
}

// The SIFs that a run with these parameters may take, as conf/containers.config chooses them.
def wanted_sifs(images, settings) {
    def sections = [CALIBRATE: ['segment', 'cluster'], FINETUNE: ['train', 'segment', 'cluster']]
    def wanted = images.findAll { _name, one ->
        def words = one.when ? one.when.tokenize('=') : []
        return words.isEmpty() || one.processes.any { process ->
            (sections[process] ?: [process.toLowerCase()]).any { section -> settings[section].get(words[0]).toString() == words[1] }
        }
    }
    return wanted.collect { name, one -> [name, "${settings.image_folder}/${name}-${one.version}.sif".toString()] }
}

// File name -> SHA-256 of the SIFs that this run may take; it ends with one line where a record says otherwise.
// Records: containers/images.json of a release, else images.json beside the SIFs.
def verified_images(settings) {
    if (workflow.containerEngine != 'apptainer' || settings.image_registry || !settings.image_folder || !settings.verify_images) {
        return [:]
    }
    if (!settings.image_folder.toString().startsWith('/')) {
        error("parameter image_folder = '${settings.image_folder}': an absolute path was expected")
    }
    def released = read_json(file("${projectDir}/containers/images.json"))
    def record = file("${settings.image_folder}/images.json")
    def built = record.exists() ? read_json(record) : [:]
    return wanted_sifs(released, settings).findAll { _name, path -> file(path).exists() }.collectEntries { name, path ->
        def found = sha256(file(path))
        def expected = released[name].sif_sha256 ?: built[name]?.sif_sha256
        if (expected == null) {
            error("${path}: no record knows this image's SHA-256; ${record} was expected to (or --verify_images false)")
        }
        if (found != expected) {
            error("${path}: SHA-256 ${found}, but ${expected} was expected; the image was changed, build or fetch it again")
        }
        [file(path).name, found]
    }
}
