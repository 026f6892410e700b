process REPORT {
    tag 'report'
    label 'medium'

    input:
    tuple val(ids), path(tomograms, stageAs: 'tomograms/?/*'), val(annotated), path(annotations, stageAs: 'annotations/?/*')     // of the user's tomograms that are shown
    path library, stageAs: 'run/volume/*'
    tuple val(names), path(files, stageAs: 'files/?/*')      // of the run: <stage>/<file name>, sorted

    output:
    path 'report/report.html', emit: page           // no topic: REPORT is made from what is published

    script:
    // The report finds a file of the run by its stage, a user's tomogram and annotations by the id, whatever they are called.
    def links = [names, [files].flatten()].transpose() +
        [ids, [tomograms].flatten()].transpose().collect { id, one -> ["tomograms/${id}.mrc${one.name.endsWith('.gz') ? '.gz' : ''}", one] } +
        [annotated, [annotations].flatten()].transpose().collect { id, one -> ["tomograms/${id}.${one.name.tokenize('.')[-1].toLowerCase()}", one] }
    """
    mkdir -p run/tomograms ${names.collect { name -> "run/${name.tokenize('/')[0]}" }.unique().join(' ')}
    ${links.collect { name, one -> "ln -s \"\$PWD\"/${one} 'run/${name}'" }.join('\n    ')}
    template-learning report --data run --output report/report.html
    """

    stub:
    """
    mkdir report
    touch report/report.html
    """
}
