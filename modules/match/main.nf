process MATCH {
    tag "${id}"
    label 'large'

    input:
    tuple val(id), path(tomogram, stageAs: 'tomogram/*'), val(voxel_size_angstrom), path(tilt_facts)    // '' where the header's holds; [] for the user's
    path library, stageAs: 'library/*'
    val settings
    val contrast

    output:
    tuple val(id), path("${id}.picks.csv"), path("${id}.picks.csv.json"), emit: picks
    tuple path("${id}.scores.mrc"), path("${id}.scores.mrc.json"), emit: scores

    script:
    def size = voxel_size_angstrom ? "--voxel-size-angstrom ${voxel_size_angstrom}" : ''
    def taken = tilt_facts ? "--tilt-facts ${tilt_facts}" : ''
    def sign = tilt_facts ? 'protein_dark' : contrast     // simulated ones have facts
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning match --tomogram ${tomogram} --library library --id ${id} --settings settings.json --contrast ${sign} ${taken} ${size} --output .
    """

    stub:
    """
    touch ${id}.picks.csv ${id}.picks.csv.json ${id}.scores.mrc ${id}.scores.mrc.json
    """
}
